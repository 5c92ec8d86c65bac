import numpy as np
import pytest

from components.evaluation.pictures import CAPTION_HEIGHT, PANELS, SIDE, draw
from components.method import Explanation
from tests.world import draw_bird

IMAGE, BIRD = draw_bird(0, 0, 96, 3)


def panels(heatmaps, weights, captions=None):
    captions = captions or tuple("concept" for _ in weights)
    picture = draw(IMAGE, Explanation(1, "title", heatmaps, np.asarray(weights), captions))
    n = min(len(weights), PANELS)
    assert picture.shape == (SIDE + CAPTION_HEIGHT, (1 + n) * SIDE, 3)
    assert picture.dtype == np.uint8
    return np.split(picture.astype(int), 1 + n, axis=1)


def redness(panel):
    return panel[:SIDE, :, 0] - panel[:SIDE, :, 2]


def test_a_heatmap_tints_the_photograph_where_it_is_high():
    """Of any size and scale; the pixel of 224 that corresponds to one of 96."""
    bird = np.asarray([[BIRD[y * 96 // SIDE, x * 96 // SIDE] for x in range(SIDE)] for y in range(SIDE)])
    photograph, tinted = panels((1e3 * BIRD - 7e3)[None], [0.4])
    assert redness(tinted)[bird].mean() > 80
    assert abs(redness(tinted)[~bird].mean()) < 8
    assert abs(photograph[:SIDE].mean() - IMAGE.mean()) < 2
    assert (photograph[SIDE:] == 255).all()
    assert (tinted[SIDE:] < 128).any()  # its caption


def test_rows_and_columns_are_not_exchanged():
    heatmap = np.zeros((4, 7))
    heatmap[0, 6] = 1
    _, tinted = panels(heatmap[None], [1.0])
    y, x = np.unravel_index(redness(tinted).argmax(), (SIDE, SIDE))
    assert y < SIDE / 4 < SIDE * 6 / 7 < x


def test_the_largest_weights_by_magnitude_come_first():
    heatmaps = np.zeros((6, 6, 6))
    heatmaps[np.arange(6), np.arange(6), 0] = 1  # the i-th is high in row i
    _, *tinted = panels(heatmaps, [0.1, -0.9, 0.5, 0.0, 0.2, -0.05])
    rows = [redness(panel).max(axis=1).argmax() * 6 // SIDE for panel in tinted]
    assert rows == [1, 2, 4, 0]


@pytest.mark.parametrize("value", [0.0, 0.3, float("nan")])
def test_a_heatmap_that_says_nothing_tints_nothing(value):
    _, tinted = panels(np.full((1, 7, 7), value), [0.0], ("many words " * 30,))
    assert (redness(tinted) == 0).all()
