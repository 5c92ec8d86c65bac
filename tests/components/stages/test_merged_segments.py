"""Unions of segments, against pixels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from components.models.segmentation.segmenter import Found
from components.models.segmentation.segmenters.slic import Slic
from components.pixels import masks
from components.pixels.bags import BoxRules
from components.stage import Batch, ImageRecord
from components.stages.base.segment_stage import segment_columns
from components.stages.merged_segments import MergedSegments
from components.stages.segments import Segments
from tests import reference

SIZE = (12, 15)


def squares(*corners, side=6):
    found = np.zeros((len(corners), *SIZE), bool)
    for mask, (y, x) in zip(found, corners, strict=True):
        mask[y : y + side, x : x + side] = True
    return found


def merge(found, detected=None, predicted_iou=None, **changes):
    """Masks (S, H, W) after the stage, and the row of its other columns."""
    knobs = {"tau_min_pixels": 0, "rho_max": 1.0, "tau_iou": 0.3, "pixel_frame": "native", "boxes": None}
    stage = MergedSegments(segments=Segments(segmenter=Slic()), **{**knobs, **changes})
    runs = masks.encode(found) if len(found) else []
    columns = segment_columns([Found(runs, predicted_iou)], [SIZE])
    for name, values in (detected or {}).items():
        columns[name] = pa.array([values])
    batch = Batch(
        [ImageRecord(0, Path("none"))], [np.zeros((0, 0, 3), np.uint8)], {"segments": pa.table(columns)}
    )
    row = pa.table(stage.load({}, "cpu")(batch).columns).to_pylist()[0]
    return masks.decode(row["counts"], *SIZE), row


def test_what_overlaps_becomes_one_and_what_does_not_stays():
    found = squares((0, 0), (0, 2), (6, 9))
    merged, row = merge(found)
    np.testing.assert_array_equal(merged, [found[0] | found[1], found[2]])
    assert row["area"] == [48, 36]
    assert (row["height"], row["width"]) == SIZE


def test_a_chain_of_overlaps_is_one_segment():
    """The outer two do not touch: they become one through the one between them, in whatever order."""
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1]):
        found = squares((0, 0), (0, 3), (0, 6))[order]
        merged, _ = merge(found, predicted_iou=np.array([0.9, 0.8, 0.7], np.float32), tau_iou=0.2)
        np.testing.assert_array_equal(merged, [found.any(axis=0)])


def test_the_best_one_gives_concept_score_and_rank():
    found = squares((0, 0), (0, 1), (6, 9))
    detected = {"concept": [4, 7, 7], "score": [0.3, 0.6, 0.5], "rank": [1, 0, 0]}
    boxes = BoxRules(k_top=2, threshold=0.1, per_concept=2)
    merged, row = merge(found, detected, boxes=boxes)
    np.testing.assert_array_equal(merged, [found[0] | found[1], found[2]])
    assert (row["concept"], row["rank"]) == ([7, 7], [0, 0])
    np.testing.assert_allclose(row["score"], [0.6, 0.5])
    assert merge(found, detected, boxes=BoxRules(1, 0.1, 2))[1]["concept"] == [7, 7]
    assert merge(found, detected, boxes=BoxRules(2, 0.55, 2))[1]["area"] == [36]
    assert merge(found, detected, boxes=BoxRules(2, 0.1, 1))[1]["area"] == [42]


def test_a_union_never_outgrows_rho_max():
    found = squares((0, 0), (0, 2))
    score = np.array([0.2, 0.9], np.float32)
    merged, _ = merge(found, predicted_iou=score, rho_max=0.25)
    np.testing.assert_array_equal(merged, found[1:])


def test_no_segments_and_segments_that_are_refused():
    assert len(merge(squares())[0]) == 0
    assert len(merge(squares((0, 0)), tau_min_pixels=37)[0]) == 0
    assert len(merge(squares((0, 0)), tau_min_pixels=36)[0]) == 1


@settings(max_examples=60)
@given(
    corners=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=6),
    tau_iou=st.sampled_from([0.0, 0.2, 0.5]),
    rho_max=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_nothing_is_invented_and_nothing_overlaps(corners, tau_iou, rho_max):
    found = squares(*corners)
    merged, row = merge(found, tau_iou=tau_iou, rho_max=rho_max)
    for i, mask in enumerate(merged):
        inside = [other for other in found if (other & ~mask).sum() == 0]
        np.testing.assert_array_equal(np.any(inside, axis=0), mask)
        assert 0 < mask.mean() <= rho_max
        assert all(reference.iou(mask, other) <= tau_iou + 1e-9 for other in merged[:i])
    if rho_max == 1.0 and corners:
        np.testing.assert_array_equal(merged.any(axis=0), found.any(axis=0))
    assert row["area"] == [int(mask.sum()) for mask in merged]
