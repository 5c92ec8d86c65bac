import numpy as np
import pytest

from components.evaluation.pictures import COLUMNS, HEATMAPS, SIDE, draw
from components.method import Explanation
from tests.world import draw_bird

IMAGE, BIRD = draw_bird(0, 0, 96, 3)


def panels(heatmaps, weights, captions=None):
    """The photograph, the heatmaps in their order, and what is said of them."""
    captions = captions or tuple("concept" for _ in weights)
    picture, said = draw(IMAGE, Explanation(1, "title", heatmaps, np.asarray(weights), captions))
    n = 1 + min(len(weights), HEATMAPS)
    rows, columns = -(-n // COLUMNS), min(n, COLUMNS)
    assert picture.shape == (rows * SIDE, columns * SIDE, 3)
    assert picture.dtype == np.uint8
    cut = picture.astype(int).reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    return *cut.reshape(-1, SIDE, SIDE, 3)[:n], said


def redness(panel):
    return panel[..., 0] - panel[..., 2]


def test_a_heatmap_tints_the_photograph_where_it_is_high():
    """Of any size and scale; the pixel of 224 that corresponds to one of 96."""
    bird = np.asarray([[BIRD[y * 96 // SIDE, x * 96 // SIDE] for x in range(SIDE)] for y in range(SIDE)])
    photograph, tinted, said = panels((1e3 * BIRD - 7e3)[None], [0.4], ("a beak",))
    assert redness(tinted)[bird].mean() > 80
    assert abs(redness(tinted)[~bird].mean()) < 8
    assert abs(photograph.mean() - IMAGE.mean()) < 2
    assert said == ["1: +0.40  a beak"]


def test_rows_and_columns_are_not_exchanged():
    heatmap = np.zeros((4, 7))
    heatmap[0, 6] = 1
    _, tinted, _ = panels(heatmap[None], [1.0])
    y, x = np.unravel_index(redness(tinted).argmax(), (SIDE, SIDE))
    assert y < SIDE / 4 < SIDE * 6 / 7 < x


def test_the_largest_weights_by_magnitude_come_first():
    heatmaps = np.zeros((6, 6, 6))
    heatmaps[np.arange(6), np.arange(6), 0] = 1  # the i-th is high in row i
    _, *tinted, said = panels(heatmaps, [0.1, -0.9, 0.5, 0.0, 0.2, -0.05], tuple("abcdef"))
    assert said == ["1: -0.90  b", "2: +0.50  c", "3: +0.20  e", "4: +0.10  a"]
    rows = [redness(panel).max(axis=1).argmax() * 6 // SIDE for panel in tinted]
    assert rows == [1, 2, 4, 0]


@pytest.mark.parametrize("value", [0.0, 0.3, float("nan")])
def test_a_heatmap_that_says_nothing_tints_nothing(value):
    _, tinted, _ = panels(np.full((1, 7, 7), value), [0.0])
    assert (redness(tinted) == 0).all()
