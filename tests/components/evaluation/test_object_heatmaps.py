"""Heatmaps against the object masks of drawn birds."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score, jaccard_score

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.evaluation import object_heatmaps as heatmap_scores
from components.evaluation.object_heatmaps import object_pointing_metrics, segmentation_metrics
from components.pixels.frames import framed, framed_mask
from tests.world import draw_waterbirds

SIDE, SIZE = 48, 32
CARD = load_card("toybirds").model_copy(update={"image_size": SIZE})


@pytest.fixture
def data(tmp_path):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path, per_group=3, side=SIDE), CARD)
    return Data(CARD, index)


def mask_path(data, image_id):
    (row,) = data.rows(np.array([image_id]))
    return data.index.beside(data.index.masks, int(row))


def masks_of(data, ids, frame="squash"):
    return np.stack([framed_mask(np.asarray(Image.open(mask_path(data, i))), SIZE, frame) for i in ids])


def noise(ids):
    return np.stack([np.random.default_rng(i).random((SIZE, SIZE)) for i in ids])


def values(metrics):
    assert len({metric.name for metric in metrics}) == len(metrics)
    return {metric.name: metric.value for metric in metrics}


def test_scores_are_those_of_scikit_learn(data, monkeypatch):
    monkeypatch.setattr(heatmap_scores, "IMAGES_AT_ONCE", 5)
    asked = []

    def heatmaps(ids):
        asked.append(len(ids))
        return noise(ids)

    found = values(segmentation_metrics(data, "test", heatmaps, "squash"))
    ids = data.split("test").ids
    assert asked == [5, 5, 2]
    truth, heat = masks_of(data, ids).astype(bool), noise(ids)
    scaled = (heat - heat.min((1, 2), keepdims=True)) / np.ptp(heat, axis=(1, 2), keepdims=True)
    above = scaled > scaled.mean((1, 2), keepdims=True)
    assert found["pixel_accuracy"] == pytest.approx((above == truth).mean())
    overlaps = [jaccard_score(truth.ravel(), above.ravel(), pos_label=label) for label in (False, True)]
    assert found["mean_iou"] == pytest.approx(np.mean(overlaps))
    precisions = [
        average_precision_score(
            np.concatenate([~mask.ravel(), mask.ravel()]), np.concatenate([1 - h.ravel(), h.ravel()])
        )
        for mask, h in zip(truth, scaled, strict=True)
    ]
    assert found["mean_average_precision"] == pytest.approx(np.mean(precisions), abs=1e-4)


@pytest.mark.parametrize("frame", ["squash", "center_crop"])
def test_a_heatmap_that_is_the_object_finds_it_in_every_frame(data, frame):
    """The images are made wide, so that the frames differ: the object is where it is in the framed image."""
    for row in range(len(data.index)):
        for path in (data.index.path(row), data.index.beside(data.index.masks, row)):
            picture = Image.open(path)
            picture.resize((2 * SIDE, SIDE), Image.Resampling.NEAREST).save(path)

    def colours(ids):
        squares = [framed(image, SIZE, frame).astype(float) for image in data.images(ids)]
        return np.stack([np.abs(square[..., 0] - square[..., 2]) for square in squares])

    found = values(segmentation_metrics(data, "test", colours, frame))
    wrong = values(
        segmentation_metrics(data, "test", colours, "squash" if frame == "center_crop" else "center_crop")
    )
    assert found["mean_foreground_precision"] > 0.98
    assert wrong["mean_foreground_precision"] < found["mean_foreground_precision"] - 0.1
    pointed = values(object_pointing_metrics(data, "test", colours, frame))
    assert pointed["object_pointing_accuracy_15px"] == 1


def test_pointing_counts_classes_alike_and_knows_chance(data):
    """Class 0 is pointed at, class 1 is not, in a split with twice as many images of class 1."""
    labels = dict(zip(data.index.image_ids, data.index.labels, strict=True))
    zeros = data.split("test").ids[data.split("test").labels == 0]
    fewer = Data(CARD, data.index.rows(~np.isin(data.index.image_ids, zeros[:3])))

    def pointing(ids):
        masks = masks_of(data, ids).astype(bool)
        return np.stack([mask == (labels[i] == 0) for i, mask in zip(ids, masks, strict=True)]).astype(float)

    found = values(object_pointing_metrics(fewer, "test", pointing, "squash"))
    ids = fewer.split("test").ids
    masks = masks_of(data, ids)
    assert (len(ids), found["object_pointing_accuracy"]) == (9, 0.5)
    assert found["object_relevance_mass"] == pytest.approx(3 / 9)
    assert found["object_relevance_mass_chance"] == pytest.approx(masks.mean())
    beside = 1 - np.stack([masks_of(data, [i])[0] for i in ids])
    near = values(object_pointing_metrics(fewer, "test", lambda ids: 0 * beside + noise(ids), "squash"))
    assert near["object_pointing_accuracy_15px"] >= near["object_pointing_accuracy"]


@pytest.mark.parametrize("steps", [2, 3])
def test_near_is_15_pixels_of_a_224_frame_on_the_image_as_it_is(data, steps):
    """On 32 pixels these are 2."""

    def beside(ids):
        distances = [distance_transform_edt(mask == 0) for mask in masks_of(data, ids)]
        return np.stack([np.abs(distance - steps) < 1e-9 for distance in distances]).astype(float)

    assert beside(data.split("test").ids).any(axis=(1, 2)).all()
    found = values(object_pointing_metrics(data, "test", beside, "squash"))
    assert found["object_pointing_accuracy"] == 0
    assert found["object_pointing_accuracy_15px"] == (steps == 2)


def test_what_must_be_ignored_counts_nowhere(data):
    ids = data.split("test").ids
    before = values(segmentation_metrics(data, "test", noise, "squash"))
    half = np.arange(SIDE) < SIDE // 2
    for image_id in ids:
        mask = np.asarray(Image.open(mask_path(data, image_id))).astype(np.uint8)
        Image.fromarray(np.where(half, 255, mask).astype(np.uint8)).save(mask_path(data, image_id))
    found = values(segmentation_metrics(data, "test", noise, "squash"))
    truth, heat = masks_of(data, ids), noise(ids)
    scaled = (heat - heat.min((1, 2), keepdims=True)) / np.ptp(heat, axis=(1, 2), keepdims=True)
    above = scaled > scaled.mean((1, 2), keepdims=True)
    counted = truth != 255
    assert counted.mean() == 0.5
    assert found["pixel_accuracy"] == pytest.approx((above == (truth == 1))[counted].mean())
    assert found != before


def test_images_without_a_mask_are_left_out(data):
    ids = data.split("test").ids
    for image_id in ids[1:]:
        mask_path(data, image_id).unlink()
    found = values(segmentation_metrics(data, "test", noise, "squash"))
    (truth,), (heat,) = masks_of(data, ids[:1]), noise(ids[:1])
    scaled = (heat - heat.min()) / np.ptp(heat)
    assert found["pixel_accuracy"] == pytest.approx(((scaled > scaled.mean()) == truth).mean())
    mask_path(data, ids[0]).unlink()
    assert segmentation_metrics(data, "test", noise, "squash") == []
    assert object_pointing_metrics(data, "test", noise, "squash") == []


def test_a_data_set_without_masks_asks_for_no_heatmap(data):
    bare = Data(CARD, replace(data.index, masks=None))

    def never(ids):
        raise AssertionError

    assert segmentation_metrics(bare, "test", never, "squash") == []
    assert object_pointing_metrics(bare, "test", never, "squash") == []


def test_names_and_selection_are_as_asked(data):
    found = segmentation_metrics(data, "test", noise, "squash", "_of_noise", "chosen")
    assert {metric.selection for metric in found} == {"chosen"}
    assert all(metric.name.endswith("_of_noise") for metric in found)
    assert {metric.split for metric in found} == {"test"}


def test_a_mask_that_cannot_be_used_leaves_out_its_image_and_is_named(data):
    ids = data.split("test").ids
    whole = np.isin(data.index.image_ids, ids[1:])
    others = values(object_pointing_metrics(Data(CARD, data.index.rows(whole)), "test", noise, "squash"))
    path = mask_path(data, ids[0])
    for content, why in ((b"", "cannot identify"), (None, "does not fit")):
        if content is None:
            Image.new("1", (SIDE, SIDE - 1), 1).save(path)
        else:
            path.write_bytes(content)
        assert values(object_pointing_metrics(data, "test", noise, "squash")) == others
        ((name, (_, said)),) = data.masks_left_out.items()
        assert path.as_posix().endswith(name)
        assert why in said
