from dataclasses import replace

import numpy as np
from PIL import Image

from components.data.mask_files import MaskValues
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.stage import ImageRecord

IMAGE = np.zeros((6, 8, 3), np.uint8)


def record(folder, mask=None, parts=None):
    paths = []
    for name, content in (("mask", mask), ("parts", parts)):
        paths.append(folder / f"{name}.png")
        if content is not None:
            Image.fromarray(content).save(paths[-1])
    return ImageRecord(1, folder / "image.png", *paths)


def test_the_object_without_its_parts(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:5, 1:4] = 255
    found = ObjectMask().segment(IMAGE, record(tmp_path, mask, (mask > 0).astype(np.uint8) * 3))
    np.testing.assert_array_equal(found, (mask > 0)[None])


def test_an_image_without_an_object_has_no_segment(tmp_path):
    assert ObjectMask().segment(IMAGE, record(tmp_path)).shape == (0, 6, 8)
    assert ObjectMask().segment(IMAGE, ImageRecord(1, tmp_path / "image.png")).shape == (0, 6, 8)
    assert ObjectMask().segment(IMAGE, record(tmp_path, np.zeros((6, 8), np.uint8))).shape == (0, 6, 8)


def test_a_mask_that_cannot_be_used_is_no_failure_of_its_image(tmp_path):
    other_size = record(tmp_path, np.ones((5, 8), np.uint8))
    assert ObjectMask().segment(IMAGE, other_size).shape == (0, 6, 8)
    other_size.mask.write_bytes(b"no picture")
    assert ObjectMask().segment(IMAGE, other_size).shape == (0, 6, 8)


def test_pixels_that_count_nowhere_are_a_second_segment_where_the_card_names_them(tmp_path):
    mask = np.full((6, 8), 2, np.uint8)
    mask[2:5, 1:4], mask[2:5, 4] = 1, 3
    told = replace(record(tmp_path, mask), mask_values=MaskValues(object=(1,), ignore=(3,)))
    np.testing.assert_array_equal(ObjectMask().segment(IMAGE, told), [mask == 1, mask == 3])
