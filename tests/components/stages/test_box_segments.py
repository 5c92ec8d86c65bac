"""Segments from boxes: the masks of the box segmenter, with what the detector said of each box."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.models.clip.clip import Clip
from components.models.segmentation.box_segmenters.box import Box
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detector import Detector
from components.pixels import masks
from components.stage import Batch, ImageRecord, fixed_size_lists, ragged_lists
from components.stages.box_segments import BoxSegments
from components.stages.boxes import Boxes
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from tests import small_sam

SIZES = ((40, 50), (30, 20), (25, 60))
PER_IMAGE = (2, 0, 3)
STREAM = np.random.default_rng(0)
BOXES = np.float32([[1, 2, 30, 31], [5.2, 5.2, 20, 20], [0, 0, 60, 25], [9, 9, 9, 9], [50, 20, 90, 90]])
SCORES = np.float32([0.9, 0.3, 0.8, 0.7, 0.2])
CONCEPTS, RANKS = np.array([4, 4, 1, 0, 0]), np.array([0, 0, 1, 2, 2])


@dataclass(frozen=True, kw_only=True)
class NoDetector(Detector):
    BATCH_SIZE = 3


def stage(segmenter):
    images, texts = ClipImages(clip=Clip()), ClipTexts(clip=Clip(), texts=("a", "b"))
    return BoxSegments(boxes=Boxes(detector=NoDetector(), images=images, texts=texts), segmenter=segmenter)


@pytest.fixture
def batch():
    """Its arrays cannot be written: they come from a table."""
    table = pa.table(
        {
            "height": [height for height, _ in SIZES],
            "width": [width for _, width in SIZES],
            "box": ragged_lists(fixed_size_lists(BOXES), list(PER_IMAGE)),
            "score": ragged_lists(pa.array(SCORES), list(PER_IMAGE)),
            "concept": ragged_lists(pa.array(CONCEPTS), list(PER_IMAGE)),
            "rank": ragged_lists(pa.array(RANKS), list(PER_IMAGE)),
        }
    )
    images = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return Batch([ImageRecord(i, Path("none")) for i in range(3)], images, {"boxes": table})


def test_each_segment_tells_its_box(batch):
    rows = stage(Box()).load({}, "cpu")(batch)
    table = pa.table(rows.columns)
    assert table["height"].to_pylist() == [40, 30, 25]
    assert table["width"].to_pylist() == [50, 20, 60]
    assert table["area"].to_pylist() == [[29 * 29, 15 * 15], [], [60 * 25, 0, 10 * 5]]
    assert table["box"].to_pylist()[0] == [[1, 2, 29, 29], [5, 5, 15, 15]]
    for name, values in {"source_box": BOXES, "score": SCORES, "concept": CONCEPTS, "rank": RANKS}.items():
        assert [len(row) for row in table[name].to_pylist()] == list(PER_IMAGE)
        np.testing.assert_array_equal([v for row in table[name].to_pylist() for v in row], values)
    assert table["predicted_iou"].to_pylist() == [None] * 3
    assert table["stability"].to_pylist() == [None] * 3


def test_masks_and_scores_are_the_segmenters(batch, tmp_path):
    sam = Sam(checkpoint=small_sam.save_sam(tmp_path / "sam.pth"))
    rows = stage(sam).load({}, "cpu")(batch)
    table, segment = pa.table(rows.columns), sam.load("cpu")
    for row, (image, boxes) in enumerate(zip(batch.images, np.split(BOXES, [2, 2]), strict=True)):
        found = segment(image, boxes)
        assert table["counts"][row].as_py() == found.counts
        assert table["area"][row].as_py() == masks.decode(found.counts, *SIZES[row]).sum(axis=(1, 2)).tolist()
        np.testing.assert_array_equal(np.float32(table["predicted_iou"][row].as_py()), found.predicted_iou)
        np.testing.assert_array_equal(np.float32(table["stability"][row].as_py()), found.stability)
    assert rows.model_inputs == 2, "an image without boxes takes no pass"


def test_parts_of_a_batch_give_the_rows_of_the_whole(batch):
    segment = stage(Box()).load({}, "cpu")
    whole = pa.table(segment(batch).columns)
    parts = pa.concat_tables([pa.table(segment(batch.part(slice(i, i + 1))).columns) for i in range(3)])
    assert parts.equals(whole)


def test_the_segmenter_says_how_many_images_at_once():
    assert stage(Box()).batch_size == Box.BATCH_SIZE
    assert set(stage(Box()).inputs()) == {"boxes"}
