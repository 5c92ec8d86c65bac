"""The box itself as the mask: the control that has no segmenter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.box_segmenter import BoxSegmenter, SegmentBoxes
from components.models.segmentation.segmenter import Found
from components.pixels import masks


@dataclass(frozen=True, kw_only=True)
class Box(BoxSegmenter):
    """Every pixel between the box's edges, each rounded to the nearest pixel edge (halves up) and clipped to
    the image; empty for a box that is thinner than that or outside."""

    def load(self, device: str) -> SegmentBoxes:
        return fill


def fill(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Found:
    """The filled boxes, without scores."""
    height, width = image.shape[:2]
    corners = np.floor(np.asarray(boxes, np.float64).reshape(-1, 4) + 0.5)
    corners = corners.clip(0, [width, height, width, height]).astype(int)
    counts: list[bytes] = []
    for x0, y0, x1, y1 in corners:
        mask = np.zeros((1, height, width), bool)
        mask[0, y0:y1, x0:x1] = True
        counts += masks.encode(mask)
    return Found(counts)
