"""Equal rectangles, whatever the image shows: a control for segmenters that look at it."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Segmenter, masks_of
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class Grid(Segmenter):
    """cells x cells rectangles that cover the image, row by row; disjoint. Sides differ by at most one pixel;
    an image with fewer pixels than cells along a side has one cell for each."""

    cells: Annotated[int, Ge(1)] = 4

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        rows, columns = (np.arange(side) * self.cells // side for side in image.shape[:2])
        return masks_of(rows[:, None] * self.cells + columns)
