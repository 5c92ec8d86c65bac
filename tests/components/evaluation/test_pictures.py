import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from components.evaluation.pictures import LARGE, SIDE, draw, draw_evidence
from components.method import Explanation
from tests.world import draw_bird

IMAGE, BIRD = draw_bird(0, 0, 96, 3)


def panels(masks, weights, captions=None):
    captions = captions or tuple("concept" for _ in masks)
    picture, said = draw(IMAGE, Explanation(1, "title", masks, np.asarray(weights), captions))
    assert picture.shape == (SIDE, 2 * SIDE, 3)
    assert picture.dtype == np.uint8
    return *np.split(picture.astype(int), 2, axis=1), said


def redness(panel):
    return panel[..., 0] - panel[..., 2]


def test_the_heaviest_region_is_tinted_and_the_rest_is_grey():
    photograph, tinted, said = panels(np.stack([BIRD, ~BIRD]), [0.9, 0.0], ("a beak", "water"))
    bird = np.asarray([[BIRD[y * 96 // SIDE, x * 96 // SIDE] for x in range(SIDE)] for y in range(SIDE)])
    assert redness(tinted)[bird].mean() > 80
    assert abs(redness(tinted)[~bird].mean()) < 5
    assert said == ["1: 100 %  a beak", "2: 0 %  water"]
    assert abs(photograph.mean() - IMAGE.mean()) < 2


def test_a_number_lies_inside_its_region_also_where_the_region_is_a_ring():
    ring = np.ones((96, 96), bool)
    ring[16:80, 16:80] = False
    photograph, with_ring, _ = panels(ring[None], [1.0])
    hole = (slice(45, 179), slice(45, 179))
    grey = photograph[hole].mean(axis=2, keepdims=True)
    assert abs(with_ring[hole] - grey).max() <= 1  # nothing is written there
    assert (with_ring == 20).all(axis=2).any()  # the number's outline


def test_what_is_of_the_whole_image_has_a_line_and_no_place() -> None:
    _, tinted, said = panels(np.ones((2, 96, 96), bool), [3.0, 1.0], ("a beak", "water"))
    assert said == ["1: 75 %  a beak", "2: 25 %  water"]
    assert not (np.abs(tinted - 20) <= 2).all(axis=2).any(), "no number's outline"


def test_numbers_of_nested_regions_do_not_lie_upon_each_other():
    """Three squares around one middle: three numbers with an outline each, apart from one another."""
    squares = np.zeros((3, 96, 96), bool)
    for number, half in enumerate((12, 24, 40)):
        squares[number, 48 - half : 48 + half, 48 - half : 48 + half] = True
    _, tinted, _ = panels(squares, [1.0, 1.0, 1.0])
    ink = (np.abs(tinted - 20) <= 2).all(axis=2)
    assert label(binary_dilation(ink, iterations=2))[1] == 3


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, -2.0], [1e-30, 0.0]])
def test_weights_without_evidence_draw_nothing_strange(weights):
    captions = ("a" * 200, "many words " * 20)
    *drawn, said = panels(np.stack([BIRD, ~BIRD]), weights, captions)
    for panel in drawn:
        assert ((panel >= 0) & (panel <= 255)).all()
    assert sorted(line.partition("%  ")[2] for line in said) == sorted(captions), "as text, no word is lost"


def test_a_number_in_a_picture_stands_for_its_line_of_text():
    """Six regions at most, the heaviest first; each number lies in the region that its line names."""
    masks = np.zeros((8, 96, 96), bool)
    for place in range(8):
        masks[place, :, 12 * place : 12 * place + 12] = True
    weights = np.array([1, 8, 3, 5, 2, 7, 6, 4])
    _, tinted, said = panels(masks, weights, tuple("abcdefgh"))
    assert [line[-1] for line in said] == ["b", "f", "g", "d", "h", "c"]
    outlined = (np.abs(tinted - 20) <= 2).all(axis=2).any(axis=0)
    assert [bool(outlined[28 * i + 4 : 28 * i + 24].any()) for i in range(8)] == [
        letter in "bfgdhc" for letter in "abcdefgh"
    ]


def test_evidence_alone_is_drawn_alike_for_masks_and_heatmaps_whatever_they_are_called():
    wide = IMAGE[:48]
    mask = np.zeros((1, 48, 96), bool)
    mask[0, :, :48] = True
    forms = [
        Explanation(1, "one", mask, np.array([0.2]), ("a",)),
        Explanation(1, "two", (7 * mask - 3).astype(np.float32), np.array([9.0]), ("b",)),
        Explanation(1, "three", np.concatenate([mask, ~mask]), np.array([0.5, -0.5]), ("c", "d")),
    ]
    pictures = [draw_evidence(wide, form) for form in forms]
    assert pictures[0].shape == (LARGE // 2, LARGE, 3)
    assert all((picture == pictures[0]).all() for picture in pictures[1:])
    tint = redness(pictures[0].astype(int))
    assert tint[:, : LARGE // 2 - 8].mean() > 80
    assert (tint[:, LARGE // 2 + 8 :] == 0).all()


@pytest.mark.parametrize("masks", [np.ones((2, 96, 96), bool), np.full((2, 5, 5), np.nan, np.float32)])
def test_without_evidence_the_photograph_is_grey(masks):
    picture = draw_evidence(IMAGE, Explanation(1, "none", masks, np.array([0.0, -1.0]), ("a", "b")))
    assert (redness(picture.astype(int)) == 0).all()
