"""What a box segmenter is: it makes one mask of each box of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Found

SegmentBoxes = Callable[[NDArray[np.uint8], NDArray[np.float32]], Found]


@dataclass(frozen=True, kw_only=True)
class BoxSegmenter:
    """Base of all box segmenters; one file each in `components/models/segmentation/box_segmenters/`."""

    FOLDER: ClassVar[str] = "components.models.segmentation.box_segmenters"
    BATCH_SIZE: ClassVar[int] = 8  # images a replica gets at once

    def load(self, device: str) -> SegmentBoxes:
        """The function of an image uint8 (H, W, 3) and its boxes float32 (S, 4), x0 y0 x1 y1 in pixels of
        the image, with its model in memory, on `device`. One mask per box, in the same order; a mask may
        be empty. All boxes of an image share one pass of the image encoder. S may be 0."""
        raise NotImplementedError
