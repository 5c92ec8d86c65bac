"""The first masks of drawn birds, whose part masks have a left half (1) and a right half (2)."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.studies.explanations.top_mask_scores import top_mask_metrics
from tests.world import column, draw_waterbirds, segment_columns

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE, "parts": ("left", "right", "tail")})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three masks of each image: the left half of the object, all of it, and the rest of the image."""
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=2), CARD)
    rows = range(len(index))
    parts = [np.asarray(Image.open(index.beside(index.part_masks, row))) for row in rows]
    columns = segment_columns([np.stack([part == 1, part > 0, part == 0]) for part in parts])
    table = pa.table({"image_id": index.image_ids, **columns})
    segments = column(tmp_path_factory.mktemp("columns") / "segments", [table])
    return Data(CARD, index, {"segments": segments})


def values(metrics):
    assert {metric.split for metric in metrics} <= {"test"}
    return {(metric.name, metric.group): metric.value for metric in metrics}


def shown(data, ids, part):
    masks = [np.asarray(Image.open(data.index.beside(data.index.part_masks, int(r)))) for r in data.rows(ids)]
    return [mask for mask in masks if (mask == part).any()]


def test_the_object_covers_its_parts_and_a_part_itself(data):
    ids = data.split("test").ids
    every = values(top_mask_metrics(data, "test", ids, np.full(len(ids), 1)))
    assert every == {("top_mask_coverage", group): 1 for group in ("object", "left", "right")}
    left = values(top_mask_metrics(data, "test", ids, np.full(len(ids), 0), "_of_left"))
    assert left["top_mask_coverage_of_left", "left"] == 1
    assert left["top_mask_coverage_of_left", "right"] == 0
    shares = [(m == 1).sum() / (m > 0).sum() for m in shown(data, ids, 1)]
    shares += [0.0] * (len(ids) - len(shares))
    assert left["top_mask_coverage_of_left", "object"] == pytest.approx(np.mean(shares))


def test_images_without_masks_of_their_own_are_left_out(data):
    ids = data.split("test").ids
    tops = np.where(np.arange(len(ids)) < 3, 1, np.where(np.arange(len(ids)) < 5, 2, -1))
    found = values(top_mask_metrics(data, "test", ids, tops))
    assert found["top_mask_coverage", "object"] == pytest.approx(3 / 5)
    assert top_mask_metrics(data, "test", ids, np.full(len(ids), -1)) == []


def test_a_data_set_without_masks_of_objects_has_no_number(data):
    bare = Data(CARD, replace(data.index, masks=None, part_masks=None), {"segments": data["segments"]})
    ids = bare.split("test").ids
    assert top_mask_metrics(bare, "test", ids, np.zeros(len(ids), np.int64)) == []
