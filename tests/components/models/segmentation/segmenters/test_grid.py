from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.models.segmentation.segmenters.grid import Grid
from components.stage import ImageRecord

RECORD = ImageRecord(0, Path("none"))


@given(height=st.integers(1, 40), width=st.integers(1, 40), cells=st.integers(1, 9))
def test_equal_rectangles_cover_the_image(height, width, cells):
    masks = Grid(cells=cells).segment(np.zeros((height, width, 3), np.uint8), RECORD)
    assert len(masks) == min(cells, height) * min(cells, width)
    assert (masks.sum(axis=0) == 1).all()
    for mask in masks:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        assert (mask == rows[:, None] & columns).all()
        for occupied, side in ((rows, height), (columns, width)):
            (positions,) = np.nonzero(occupied)
            assert len(positions) == positions[-1] - positions[0] + 1
            assert len(positions) in {1, side // cells, -(-side // cells)}


def test_cells_come_row_by_row():
    first, second, *_, last_one = Grid(cells=2).segment(np.zeros((4, 6, 3), np.uint8), RECORD)
    assert first[:2, :3].all()
    assert second[:2, 3:].all()
    assert last_one[2:, 3:].all()
