import numpy as np
import pytest
from PIL import Image

from components.data.mask_files import IGNORE, read_mask


def written(tmp_path, values):
    Image.fromarray(np.asarray(values)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[True, False, True]]), [[1, 0, 1]]),  # one bit
        (np.array([[0, 1, 255]], np.uint8), [[0, 1, IGNORE]]),  # labels
        (np.array([[0, 255, 255]], np.uint8), [[0, 1, 1]]),  # white is the object
        (np.array([[0, 51, 102, 153, 204, 255]], np.uint8), [[0, 0, 0, 1, 1, 1]]),  # five annotators
        (np.array([[0, 64, 127, 128]], np.uint8), [[0, 0, 0, 1]]),
        (np.zeros((1, 3), np.uint8), [[0, 0, 0]]),
    ],
)
def test_values_of_every_sort_of_mask(tmp_path, values, expected):
    mask = read_mask(written(tmp_path, values))
    assert mask.dtype == np.uint8
    assert mask.tolist() == expected


def test_a_picture_in_colours_is_no_mask(tmp_path):
    with pytest.raises(ValueError, match="3 axes"):
        read_mask(written(tmp_path, np.zeros((2, 2, 3), np.uint8)))
