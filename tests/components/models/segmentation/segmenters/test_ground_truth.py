import numpy as np
import pytest
from PIL import Image

from components.data.images import decode
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.stage import ImageRecord

IMAGE = np.zeros((6, 9, 3), np.uint8)


def record(folder, mask, parts=None):
    paths = []
    for name, array in (("mask", mask), ("parts", parts)):
        paths.append(None if array is None else folder / f"{name}.png")
        if array is not None:
            Image.fromarray(array).save(paths[-1])
    return ImageRecord(1, folder / "image.png", *paths)


@pytest.mark.parametrize("mode", [bool, np.uint8, np.uint16])
def test_object_parts_and_background(tmp_path, mode):
    truth = np.zeros((6, 9), bool)
    truth[1:4, 2:8] = True
    parts = np.where(truth, 1 + (np.arange(9) > 4), 0).astype(np.uint8)
    stored = truth if mode is bool else (truth * (256 if mode is np.uint16 else 255)).astype(mode)
    found = GroundTruth().segment(IMAGE, record(tmp_path, stored, parts))
    np.testing.assert_array_equal(found, [truth, parts == 1, parts == 2, ~truth])
    alone = GroundTruth(background=False).segment(IMAGE, record(tmp_path, stored))
    np.testing.assert_array_equal(alone, [truth])


def test_an_empty_mask_leaves_the_background_or_nothing(tmp_path):
    empty = record(tmp_path, np.zeros((6, 9), bool))
    assert GroundTruth().segment(IMAGE, empty).all()
    assert GroundTruth(background=False).segment(IMAGE, empty).shape == (0, 6, 9)
    full = record(tmp_path, np.ones((6, 9), bool))
    assert GroundTruth().segment(IMAGE, full).shape == (1, 6, 9)


def test_what_is_missing_or_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        GroundTruth().segment(IMAGE, ImageRecord(1, tmp_path / "image.png"))
    with pytest.raises(FileNotFoundError):
        GroundTruth().segment(IMAGE, ImageRecord(1, tmp_path / "image.png", tmp_path / "absent.png"))
    with pytest.raises(ValueError, match="does not fit"):
        GroundTruth().segment(IMAGE, record(tmp_path, np.ones((9, 6), bool)))


def test_real_masks_cover_the_animal(test_data):
    root = test_data("waterpets")
    for path in sorted(root.glob("*.jpg"))[:5]:
        mask = root / "masks" / f"{path.stem}.png"
        animal, rest = GroundTruth().segment(decode(path), ImageRecord(1, path, mask))
        np.testing.assert_array_equal(animal, np.asarray(Image.open(mask)) > 0)
        np.testing.assert_array_equal(rest, ~animal)
