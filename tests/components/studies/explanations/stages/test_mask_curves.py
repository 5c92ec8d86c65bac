"""Insertion and deletion by masks, picture by picture, on a classifier that counts red."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.models.segmentation.segmenters.slic import Slic
from components.pixels.masks import encode
from components.stage import Batch, ColumnStage, ImageRecord, fixed_size_lists
from components.stages.segments import Segments
from components.studies.explanations.stages.mask_curves import MaskCurves
from grid.stages.worker import run_rows
from tests.planted_classifier import Overflowing, Red

SIDE = 20
RED, GREEN = (255, 0, 0), (0, 200, 0)


class Ranking(ColumnStage):
    """Stands for the stage whose columns a test gives."""


def blank():
    return np.zeros((SIDE, SIDE), bool)


def box(top, left, height, width):
    mask = blank()
    mask[top : top + height, left : left + width] = True
    return mask


# overlapping masks, which leave pixels out; the second twice; the last holds everything red
MASKS = np.stack([box(0, 0, 10, 10), box(5, 5, 10, 10), box(5, 5, 10, 10), box(0, 15, 3, 3), box(2, 2, 9, 9)])


def image_of(red):
    return np.where(red[..., None], RED, GREEN).astype(np.uint8)


def stage(**knobs):
    knobs = {"ranking": Ranking(), **knobs}
    return MaskCurves(
        backbone=Red(), classifier=None, image_size=SIDE, segments=Segments(segmenter=Slic()), **knobs
    )


def segments_of(masks):
    """What the curves read of a stage of segments."""
    columns = {
        "height": [len(of_image[0]) if len(of_image) else SIDE for of_image in masks],
        "width": [len(of_image[0, 0]) if len(of_image) else SIDE for of_image in masks],
        "counts": pa.array([encode(x) if len(x) else [] for x in masks], pa.list_(pa.binary())),
    }
    return pa.table(columns)


def run(images, masks, ranking=None, **knobs):
    """The rows of images with these masks and ranking."""
    told = [ImageRecord(7 + number, Path("none")) for number in range(len(images))]
    inputs = {"segments": segments_of(masks)}
    if ranking is not None:
        inputs["ranking"] = pa.table(ranking)
    rows = stage(**knobs).load({}, "cpu")(Batch(told, list(images), inputs))
    return pa.table(rows.columns).to_pylist(), rows.model_inputs


def by_value(*values):
    masks = [list(range(len(of_image))) for of_image in values]
    return {
        "masks": pa.array(masks, pa.list_(pa.int32())),
        "values": pa.array(values, pa.list_(pa.float32())),
    }


def probability(picture):
    network = Red().build(None, SIDE, 0).eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
        return network(pixels).softmax(1)[0].numpy()


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_curves_are_those_of_the_pictures(fill):
    hidden = {"black": (0, 0, 0), "mean": (0, 0, 64)}[fill]
    image = image_of(box(3, 3, 6, 6))
    values = [0.5, 0.1, 0.9, -0.3, 0.2]
    (row,), passes = run([image], [MASKS], by_value(values), fill=fill)
    assert row["order"] == [2, 0, 4, 1, 3]
    assert row["label"] == 1
    assert row["probability"] == pytest.approx(probability(image)[1], abs=1e-6)
    for k in range(6):
        union = MASKS[row["order"][:k]].any(axis=0) if k else blank()
        assert row["areas"][k] == pytest.approx(union.mean())
        seen = np.where(union[..., None], image, hidden).astype(np.uint8)
        gone = np.where(union[..., None], hidden, image).astype(np.uint8)
        assert row["insertion"][k] == pytest.approx(probability(seen)[1], abs=1e-6)
        assert row["deletion"][k] == pytest.approx(probability(gone)[1], abs=1e-6)
    assert passes == 12


def test_the_class_of_the_whole_image_is_followed_even_where_it_is_no_longer_the_first():
    red = box(3, 3, 6, 6)
    images = [image_of(red), image_of(blank())]
    rows, _ = run(images, [MASKS, MASKS], by_value([1, 0, 0, 0, 0], [1, 0, 0, 0, 0]))
    assert [row["label"] for row in rows] == [1, 0]
    assert rows[0]["deletion"][-1] < 0.5 < rows[0]["deletion"][0]
    assert min(rows[1]["insertion"]) > 0.5, "without red it is class 0, whatever is hidden"


def test_a_ranking_by_values_may_leave_masks_out():
    ranking = {
        "masks": pa.array([[4, 1]], pa.list_(pa.int32())),
        "values": pa.array([[0.1, 0.2]], pa.list_(pa.float32())),
    }
    (row,), _ = run([image_of(box(0, 0, 5, 5))], [MASKS], ranking, min_pixels=1e9, max_masks=1)
    assert row["order"] == [1, 4]


def test_heatmaps_rank_masks_by_the_mean_heat_inside():
    heat = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float16)
    (row,), _ = run([image_of(blank())], [MASKS], {"heatmap": fixed_size_lists(heat.reshape(1, -1))})
    means = [heat[mask].astype(float).mean() for mask in MASKS]
    assert sorted(means, reverse=True) == pytest.approx([means[mask] for mask in row["order"]])
    assert row["order"].index(1) + 1 == row["order"].index(2), "equal ones keep their order"
    kept, _ = run(
        [image_of(blank())], [MASKS], {"heatmap": fixed_size_lists(heat.reshape(1, -1))}, max_masks=2
    )
    assert set(kept[0]["order"]) == {0, 1}, "the largest two, the earlier of equal ones"


def test_a_mask_outside_of_the_square_takes_no_part():
    """A wide image, of which the square shows the middle."""
    wide = np.zeros((3, SIDE, 3 * SIDE), bool)
    wide[0, :, :5], wide[1, :, 25:30], wide[2, :, 30:40] = True, True, True
    heat = np.full((1, SIDE * SIDE), -1, np.float16)
    segments = segments_of([wide])
    heated = {"segments": segments, "ranking": pa.table({"heatmap": fixed_size_lists(heat)})}

    def order(inputs, **knobs):
        batch = Batch([ImageRecord(0, Path("none"))], [image_of(blank())], inputs, sizes=[(SIDE, 3 * SIDE)])
        rows = stage(frame="center_crop", **knobs).load({}, "cpu")(batch)
        (row,) = pa.table(rows.columns).to_pylist()
        return row["order"], row["areas"]

    assert order(heated) == ([1, 2], pytest.approx([0, 0.25, 0.75]))
    area = order({"segments": segments}, ranking=None, control="area")
    assert area == ([2, 1], pytest.approx([0, 0.5, 0.75]))
    assert sorted(order({"segments": segments}, ranking=None, control="random")[0]) == [1, 2]


def test_an_image_with_a_probability_that_is_not_finite_fails_alone():
    """White overflows its logit, other colours do not."""
    images = [image_of(blank()), np.full((SIDE, SIDE, 3), 255, np.uint8)]
    told = [ImageRecord(number, Path("none")) for number in range(2)]
    inputs = {"segments": segments_of([MASKS, MASKS])}
    curves = MaskCurves(
        backbone=Overflowing(),
        classifier=None,
        image_size=SIDE,
        segments=Segments(segmenter=Slic()),
        ranking=None,
        control="area",
    )
    outcome = run_rows(curves.load({}, "cpu"), Batch(told, images, inputs))
    assert outcome.errors == [None, "ValueError: a probability is not finite"]
    (insertion,) = outcome.columns["insertion"].to_pylist()
    assert len(insertion) == 6


def test_controls_take_every_mask_once():
    images = [image_of(box(0, 0, 5, 5))] * 3
    random, _ = run_control(images, "random")
    again, _ = run_control(images[:1], "random")
    assert all(sorted(row["order"]) == list(range(5)) for row in random)
    assert len({tuple(row["order"]) for row in random}) > 1
    assert again[0]["order"] == random[0]["order"], "of an image, not of its batch"
    area, _ = run_control(images[:1], "area")
    assert area[0]["order"] == [0, 1, 2, 4, 3]


def run_control(images, control):
    told = [ImageRecord(7 + number, Path("none")) for number in range(len(images))]
    inputs = {"segments": segments_of([MASKS] * len(images))}
    rows = stage(ranking=None, control=control).load({}, "cpu")(Batch(told, images, inputs))
    return pa.table(rows.columns).to_pylist(), rows.model_inputs


def test_no_mask_one_mask_and_one_that_covers_everything():
    nothing = np.zeros((0, SIDE, SIDE), bool)
    image = image_of(box(0, 0, 5, 5))
    rows, passes = run(
        [image] * 3, [nothing, box(0, 0, 5, 5)[None], ~blank()[None]], by_value([], [0.4], [-0.4])
    )
    assert passes == 2 + 4 + 4
    none, one, all_of_it = rows
    assert (none["order"], none["areas"]) == ([], [0.0])
    assert none["insertion"] == pytest.approx([probability(0 * image)[1]], abs=1e-6)
    assert none["deletion"] == pytest.approx([none["probability"]])
    assert one["areas"] == pytest.approx([0, 25 / 400])
    assert one["insertion"][1] == pytest.approx(one["probability"], abs=1e-6), "all red is in it"
    assert all_of_it["insertion"] == pytest.approx(all_of_it["deletion"][::-1])


def test_many_masks_of_many_images_share_their_forward_passes(monkeypatch):
    from components.studies.explanations import masked_images

    sizes = []
    forward = masked_images._forward
    monkeypatch.setattr(
        masked_images,
        "_forward",
        lambda network, pictures: sizes.append(len(pictures)) or forward(network, pictures),
    )
    stream = np.random.default_rng(0)
    counts = [400, 1, 0, 30]
    masks = [stream.random((n, SIDE, SIDE)) < 0.1 for n in counts]
    rows, passes = run([image_of(blank())] * 4, masks, by_value(*(list(stream.random(n)) for n in counts)))
    assert [len(row["insertion"]) for row in rows] == [401, 2, 1, 31]
    assert passes == sum(sizes) == 2 * (401 + 2 + 1 + 31)
    assert len(sizes) == -(-passes // masked_images.AT_ONCE["cpu"])
    assert max(sizes) - min(sizes) <= 1


def test_a_ranking_or_a_control():
    for knobs in ({"ranking": None}, {"control": "area"}):
        with pytest.raises(ValueError, match="one of them"):
            stage(**knobs)
