"""One segment, the whole image: what a method does without segments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Segmenter
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class WholeImage(Segmenter):
    """A bag leaves it out where `rho_max` is below 1, and falls back on the same whole image."""

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        return np.ones((1, *image.shape[:2]), bool)
