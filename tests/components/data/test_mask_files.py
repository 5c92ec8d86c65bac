import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from components.data.mask_files import IGNORE, AmbiguousMask, MaskValues, read_mask, read_parts

TRIMAP = MaskValues(object=(1,), ignore=(3,))  # of Oxford-IIIT Pet: 1 the animal, 2 the rest, 3 its border


def written(tmp_path, values):
    Image.fromarray(np.asarray(values)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def grey(*values):
    return np.array([values], np.uint8)


def palette(numbers, colours):
    """A picture (1, n) of these numbers, each of which has its colour."""
    image = Image.fromarray(grey(*numbers), "P")
    image.putpalette([channel for colour in colours for channel in colour])
    return image


@pytest.mark.parametrize(
    ("values", "meaning", "expected"),
    [
        (np.array([[True, False, True]]), None, [1, 0, 1]),  # one bit
        (grey(0, 1, 255), None, [0, 1, IGNORE]),  # labels
        (grey(0, 255, 255), None, [0, 1, 1]),  # white is the object
        (grey(0, 51, 102, 153, 204, 255), "soft", [0, 0, 0, 1, 1, 1]),  # five annotators
        (grey(0, 64, 127, 128), "soft", [0, 0, 0, 1]),
        (np.zeros((1, 3), np.uint8), None, [0, 0, 0]),
        (np.array([[0, 65535]], np.uint16), None, [0, 1]),
        (grey(1, 2, 3), TRIMAP, [1, 0, IGNORE]),
        (grey(0, 7, 15, 255), MaskValues(object=(7, 15), ignore=(255,)), [0, 1, 1, IGNORE]),
        (np.array([[0, 1000, 2]], np.uint16), MaskValues(object=(1000,)), [0, 1, 0]),
        (np.array([[True, False]]), MaskValues(object=(255,)), [1, 0]),
        (np.array([[True, False]]), MaskValues(object=(1,)), [1, 0]),
        (np.array([[True, False]]), MaskValues(object=(0,)), [0, 1]),  # drawn in black
    ],
)
def test_values_of_every_sort_of_mask(tmp_path, values, meaning, expected):
    mask = read_mask(written(tmp_path, values), meaning)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [expected]


BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 0, 200)


@pytest.mark.parametrize(
    ("image", "meaning", "expected"),
    [
        (palette([0, 1], [BLACK, WHITE]), None, [0, 1]),
        (palette([0, 1], [WHITE, BLACK]), None, [1, 0]),  # by frequency, as editors reduce colours
        (palette([0, 1], [RED, BLACK]), None, [1, 0]),
        (palette([0, 1, 255], [(i, 9, 9) for i in range(256)]), None, [0, 1, IGNORE]),  # class numbers
        (palette([0, 15, 255], [(i, 9, 9) for i in range(256)]), MaskValues(object=(15,)), [0, 1, 0]),
        (palette([0, 1, 2], [BLACK] * 256), MaskValues(object=(2,)), [0, 0, 1]),  # a palette left empty
        (Image.fromarray(grey(0, 255)).convert("RGB"), None, [0, 1]),
        (Image.fromarray(grey(0, 255)).convert("RGBA"), None, [0, 1]),
        (Image.fromarray(grey(0, 255)).convert("LA"), None, [0, 1]),
        (Image.fromarray(grey(1, 2, 3)).convert("RGB"), TRIMAP, [1, 0, IGNORE]),
    ],
)
def test_masks_that_an_editor_saved(tmp_path, image, meaning, expected):
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", meaning).tolist() == [expected]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(grey(0, 7, 15)), "has the values 0, 7, 15: say in the card"),
        (Image.fromarray(grey(0, 2, 255)), "0, 2, 255"),
        (Image.fromarray(grey(1, 2, 3)), "1, 2, 3"),
        (Image.fromarray(grey(0, 15)), "0, 15"),
        (Image.fromarray(grey(*range(0, 256, 5))), r"… \(52 of them\)"),
        (palette([0, 15], [(i, 9, 9) for i in range(256)]), "0, 15"),
        (Image.fromarray(np.array([[BLACK, RED, BLUE]], np.uint8)), "in colours"),
        (Image.merge("LA", [Image.fromarray(grey(0, 255)), Image.fromarray(grey(255, 0))]), "transparent"),
    ],
)
def test_what_may_mean_several_things_is_refused_with_file_and_values(tmp_path, image, said):
    image.save(tmp_path / "mask.png")
    with pytest.raises(AmbiguousMask, match=f"mask mask.png.*{said}"):
        read_mask(tmp_path / "mask.png")


def test_parts_are_numbers_and_a_border_is_no_part(tmp_path):
    assert read_parts(written(tmp_path, grey(0, 3, 255))).tolist() == [[0, 3, IGNORE]]
    palette([0, 2], [BLACK, WHITE, RED]).save(tmp_path / "mask.png")
    assert read_parts(tmp_path / "mask.png").tolist() == [[0, 2]]
    with pytest.raises(AmbiguousMask, match="0, 300"):
        read_parts(written(tmp_path, np.array([[0, 300]], np.uint16)))


def test_a_broken_mask_is_an_os_error(tmp_path):
    path = written(tmp_path, np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8))
    for content in (path.read_bytes()[:60], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"truncated|cannot identify"):
            read_mask(path)


@pytest.mark.parametrize("wrong", [{"object": []}, {"object": [True]}, {"object": [1], "ignore": [1]}, {}])
def test_a_card_that_says_something_impossible(wrong):
    with pytest.raises(ValidationError):
        MaskValues(**wrong)


def test_a_picture_in_colours_is_no_mask(tmp_path):
    with pytest.raises(ValueError, match="in colours"):
        read_mask(written(tmp_path, np.eye(3, dtype=np.uint8)[None]))
