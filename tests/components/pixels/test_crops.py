import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.pixels.crops import segment_crops, stored_masks
from tests import reference
from tests.world import segment_columns

MARGIN = 0.1  # docs/methods/seg_mil.md, "From a segment to a vector"
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def rectangle(y, x, height, width):
    mask = np.zeros((1, *PHOTO.shape[:2]), bool)
    mask[0, y : y + height, x : x + width] = True
    return mask


def test_margin_mean_and_pixels_without_resizing():
    mask = rectangle(8, 10, 20, 20)
    mask[0, 8:12, 10:12] = False
    (crop,) = segment_crops(PHOTO, mask, 24)
    np.testing.assert_array_equal(crop, reference.crop(PHOTO, mask[0], MARGIN))
    np.testing.assert_array_equal(crop[2:22, 4:22], PHOTO[8:28, 12:30])
    mean = PHOTO.reshape(-1, 3).mean(axis=0).round()
    for outside in (crop[:2], crop[-2:], crop[:, :2], crop[:, -2:], crop[2:6, 2:4]):
        np.testing.assert_array_equal(outside.reshape(-1, 3), np.broadcast_to(mean, (outside.size // 3, 3)))


def test_the_margin_ends_at_the_image():
    (crop,) = segment_crops(PHOTO, rectangle(0, 30, 20, 20), 22)
    assert reference.crop(PHOTO, rectangle(0, 30, 20, 20)[0], MARGIN).shape == (22, 22, 3)
    np.testing.assert_array_equal(crop[:20, 2:], PHOTO[:20, 30:])


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30), st.integers(4, 40))
def test_other_sizes_are_pillows_resizing_of_the_same_crop(y, x, height, width, size):
    mask = rectangle(y, x, height, width)
    exact = Image.fromarray(reference.crop(PHOTO, mask[0], MARGIN).astype(np.uint8))
    expected = np.asarray(exact.resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(segment_crops(PHOTO, mask, size)[0], expected)


def test_no_segment_no_crop():
    assert segment_crops(PHOTO, np.zeros((0, 40, 50), bool), 8).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_stored_masks_are_those_that_were_found(n):
    found = np.random.default_rng(n).random((n, 40, 50)) < 0.5
    table = pa.table(segment_columns([found[:0], found]))
    np.testing.assert_array_equal(stored_masks(table, 1), found)
    assert stored_masks(table, 0).shape == (0, 40, 50)
    assert table["area"][1].as_py() == [int(mask.sum()) for mask in found]


def test_an_empty_mask_is_a_crop_of_the_mean():
    (crop,) = segment_crops(PHOTO, np.zeros((1, 40, 50), bool), 8)
    mean = PHOTO.reshape(-1, 3).mean(axis=0).round()
    np.testing.assert_array_equal(crop, np.broadcast_to(mean, (8, 8, 3)))


def test_an_image_of_one_pixel():
    pixel = np.array([[[10, 20, 30]]], np.uint8)
    (crop,) = segment_crops(pixel, np.ones((1, 1, 1), bool), 8)
    np.testing.assert_array_equal(crop, np.broadcast_to(pixel, (8, 8, 3)))
