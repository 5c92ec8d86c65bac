"""What holds of every box segmenter, whatever files there are."""

import dataclasses

import numpy as np
import pytest

from components.models.segmentation.box_segmenter import BoxSegmenter
from components.models.weights.checkpoints import MissingWeights
from components.pixels import masks
from grid.names import component_class, names
from tests import small_sam
from tests.small_sam import boxed_photographs

SMALL = {"sam": small_sam.save_sam, "sam2": small_sam.save_sam2}  # written to a path, instead of the default
SIZE = (45, 60)
BOXES = np.float32([[3, 4, 30, 40], [0, 0, 60, 45], [20.3, 10.1, 50.7, 30.9], [7, 7, 7, 7], [90, 9, 99, 19]])
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=names(BoxSegmenter.FOLDER))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def segment(name, tmp_path_factory):
    kind = component_class(BoxSegmenter.FOLDER, name)
    if "checkpoint" not in {field.name for field in dataclasses.fields(kind)}:
        return kind().load("cpu")
    return kind(checkpoint=SMALL[name](tmp_path_factory.mktemp(name) / "checkpoint")).load("cpu")


def check(found, size, count):
    decoded = masks.decode(found.counts, *size)
    assert decoded.shape == (count, *size)
    for scores in (found.predicted_iou, found.stability):
        if scores is not None:
            assert scores.shape == (count,)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()
    return decoded


def test_a_mask_per_box_as_large_as_the_image(segment):
    check(segment(IMAGE, BOXES), SIZE, len(BOXES))


def test_no_box_no_mask(segment):
    check(segment(IMAGE, BOXES[:0]), SIZE, 0)


@pytest.mark.parametrize("size", [(1, 1), (900, 40), (3, 7)])
def test_images_of_odd_shapes(segment, size):
    image = np.full((*size, 3), 128, np.uint8)
    check(segment(image, np.float32([[0, 0, size[1], size[0]]])), size, 1)


def test_masks_come_in_the_order_of_the_boxes(segment):
    forward, backward = (
        check(segment(IMAGE, boxes), SIZE, len(boxes)) for boxes in (BOXES, BOXES[::-1].copy())
    )
    assert (forward != backward[::-1]).mean() < 1e-3
    assert (forward != backward).mean() > 1e-2


def test_the_same_boxes_give_the_same_masks_whatever_came_between(segment):
    before, boxes = IMAGE.copy(), BOXES.copy()
    first = segment(IMAGE, BOXES)
    segment(255 - IMAGE[:30], BOXES[1:3])
    again = segment(IMAGE, BOXES)
    assert again.counts == first.counts
    np.testing.assert_array_equal(again.stability, first.stability)
    np.testing.assert_array_equal(IMAGE, before)
    np.testing.assert_array_equal(BOXES, boxes)


def test_real_photographs(segment, test_data):
    for image, boxes in boxed_photographs(test_data):
        decoded = check(segment(image, boxes), image.shape[:2], len(boxes))
        assert len({mask.tobytes() for mask in decoded}) == len(boxes)


def test_weights_that_are_not_there_are_missing(name, monkeypatch, tmp_path):
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path))
    kind = component_class(BoxSegmenter.FOLDER, name)
    if "checkpoint" not in {field.name for field in dataclasses.fields(kind)}:
        pytest.skip("it has no weights")
    with pytest.raises(MissingWeights, match=str(tmp_path)):
        kind().load("cpu")
