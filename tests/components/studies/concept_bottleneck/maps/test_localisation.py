"""Pointing at parts, on drawn birds whose part masks have a left half (1) and a right half (2)."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.metrics.heatmaps import pointing_hit
from components.studies.concept_bottleneck.maps.localisation import named_parts, pointing_metrics
from tests.world import draw_waterbirds

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE, "parts": ("left", "right", "tail")})
CONCEPTS = ("a left half", "grass", "the right", "right again", "a tail")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), side=SIDE), CARD)
    return Data(CARD, index)


def part_mask(data, image_id):
    (row,) = data.rows(np.array([image_id]))
    return np.asarray(Image.open(data.index.beside(data.index.part_masks, int(row))))


def values(metrics):
    return {(metric.name, metric.group): metric.value for metric in metrics}


def test_a_concept_names_the_part_whose_word_it_holds():
    parts = ("beak", "head", "neck")
    assert named_parts(["flat beak", "headland", "neck", "head of a beak", "grass"], parts).tolist() == [
        0,
        -1,
        2,
        0,
        -1,
    ]


def test_maps_that_are_the_parts_always_hit_and_swapped_ones_never(data):
    def right(ids, order=(1, 0, 2, 2, 1)):
        masks = np.stack([part_mask(data, image_id) for image_id in ids])
        return np.stack([masks == part for part in order], axis=1).astype(float)

    found = values(pointing_metrics(data, "test", CONCEPTS, right, "squash"))
    swapped = values(
        pointing_metrics(data, "test", CONCEPTS, lambda ids: right(ids, (2, 0, 1, 1, 2)), "squash")
    )
    ids = data.split("test").ids
    masks = [part_mask(data, image_id) for image_id in ids]
    for part, value in (("left", 1), ("right", 2)):
        seen = [mask == value for mask in masks if (mask == value).any()]
        assert found["pointing_accuracy", part] == 1
        assert swapped["pointing_accuracy", part] == 0
        assert found["pointing_accuracy_chance", part] == pytest.approx(np.mean([m.mean() for m in seen]))
        assert found["pointing_accuracy_15px_chance", part] > found["pointing_accuracy_chance", part]
    assert ("pointing_accuracy", "tail") not in found, "no image shows one"
    both = [found["pointing_accuracy_chance", part] for part in ("left", "right")]
    assert found["pointing_accuracy_chance", "all"] == pytest.approx(np.mean(both))


def test_hits_are_those_of_the_pointing_game(data):
    stream = np.random.default_rng(0)
    ids = data.split("val").ids
    maps = {image_id: stream.integers(0, 4, (len(CONCEPTS), SIDE, SIDE)).astype(float) for image_id in ids}
    found = values(
        pointing_metrics(data, "val", CONCEPTS, lambda part: np.stack([maps[i] for i in part]), "squash")
    )
    for part, concepts in ((1, [0]), (2, [2, 3])):
        for name, tolerance in (("pointing_accuracy", 0), ("pointing_accuracy_15px", 3)):
            hits = [
                np.mean([pointing_hit(maps[i][k], part_mask(data, i) == part, tolerance) for k in concepts])
                for i in ids
                if (part_mask(data, i) == part).any()
            ]
            group = CARD.parts[part - 1]
            assert found[name, group] == pytest.approx(np.mean(hits), abs=1e-6), (name, group)


def test_nothing_is_said_without_parts(data):
    def never(ids):
        raise AssertionError

    assert pointing_metrics(data, "test", ["grass"], never, "squash") == []
    plain = Data(CARD, replace(data.index, part_masks=None))
    assert pointing_metrics(plain, "test", CONCEPTS, never, "squash") == []


def test_one_bad_or_missing_mask_leaves_out_its_image_alone_and_a_border_counts_nowhere(tmp_path):
    data = Data(CARD, WaterbirdsCsv().read(draw_waterbirds(tmp_path, side=SIDE), CARD))
    ids = data.split("test").ids
    stream = np.random.default_rng(0)
    maps = {image_id: stream.random((len(CONCEPTS), SIDE, SIDE)) for image_id in ids}

    def found(some):
        index = data.index.rows(np.isin(data.index.image_ids, some))
        asked = Data(CARD, index)
        heat = lambda part: np.stack([maps[i] for i in part])  # noqa: E731
        return asked, values(pointing_metrics(asked, "test", CONCEPTS, heat, "squash"))

    _, others = found(ids[2:])
    paths = [data.index.beside(data.index.part_masks, int(row)) for row in data.rows(ids)]
    paths[0].write_bytes(paths[0].read_bytes()[:40])
    paths[1].unlink()
    asked, left = found(ids)
    assert left == others
    names = [path.relative_to(tmp_path).as_posix() for path in paths[:2]]
    assert list(asked.masks_left_out) == names
    assert asked.masks_left_out[names[1]][1] == "missing"
    bordered = np.array(part_mask(data, ids[2]))
    bordered[:, : SIDE // 2] = np.where(bordered[:, : SIDE // 2] == 1, 255, bordered[:, : SIDE // 2])
    Image.fromarray(bordered).save(paths[2])
    _, alone = found(ids[2:3])
    assert ("pointing_accuracy", "left") not in alone
    kept = bordered != 255
    assert alone["pointing_accuracy_chance", "right"] == pytest.approx((bordered == 2)[kept].mean())
