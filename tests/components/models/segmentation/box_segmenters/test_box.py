import json

import numpy as np
import pytest

from components.models.segmentation.box_segmenters.box import Box
from components.pixels import masks


def filled(size, *boxes):
    """Masks (S, H, W)."""
    found = Box().load("cpu")(np.zeros((*size, 3), np.uint8), np.float32(boxes).reshape(-1, 4))
    assert found.predicted_iou is None
    assert found.stability is None
    return masks.decode(found.counts, *size)


def test_pixels_between_the_rounded_edges():
    expected = np.zeros((6, 9), bool)
    expected[1:4, 2:7] = True
    for box in ((2, 1, 7, 4), (1.6, 0.51, 7.4, 4.49), (1.5, 0.5, 6.5, 3.5)):
        np.testing.assert_array_equal(filled((6, 9), box), [expected])


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ((-5, -5, 100, 100), 54),
        ((0, 0, 9, 6), 54),
        ((-3, 2, 4, 5), 12),
        ((3, 3, 3, 5), 0),
        ((3, 3, 3.4, 3.4), 0),
        ((9, 0, 20, 6), 0),
        ((-9, -9, -1, -1), 0),
        ((5, 4, 2, 1), 0),
    ],
)
def test_boxes_are_clipped_and_may_be_empty(box, area):
    assert filled((6, 9), box).sum() == area


def test_many_boxes_keep_their_order_and_none_gives_none():
    assert filled((4, 4)).shape == (0, 4, 4)
    assert filled((4, 4), (0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 0, 0)).sum(axis=(1, 2)).tolist() == [1, 4, 0]


def test_the_mask_of_a_true_box_has_that_box(test_data):
    """COCO's boxes of whole pixels: the tight box of the mask is the box."""
    root = test_data("seg-mini")
    truth = json.loads((root / "instances.json").read_text())
    for told in truth["images"][:5]:
        size = (told["height"], told["width"])
        things = [a for a in truth["annotations"] if a["image_id"] == told["id"]]
        corners = np.float32([a["bbox"] for a in things])
        corners[:, 2:] += corners[:, :2]
        found = Box().load("cpu")(np.zeros((*size, 3), np.uint8), corners)
        np.testing.assert_array_equal(masks.boxes(found.counts, *size), [a["bbox"] for a in things])
