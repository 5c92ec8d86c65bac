"""Segments in the square that a classifier sees, and those of them that are large enough to count."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.crops import stored_masks
from components.frames import Frame
from components.masks import FRAME
from components.metrics.heatmaps import framed_mask


def framed_segments(segments: pa.Table, row: int, size: int, frame: Frame) -> NDArray[np.bool_]:
    """Masks (S, size, size) of one row of a segment stage; one that lies outside the square is empty."""
    masks = np.zeros((len(segments["counts"][row]), size, size), bool)
    for square, mask in zip(masks, stored_masks(segments, row), strict=True):
        square[:] = framed_mask(mask, size, frame)
    return masks


def kept_masks(masks: NDArray[np.bool_], min_pixels: float, max_masks: int | None) -> NDArray[np.int64]:
    """Positions, ascending, of those of the masks (S, size, size) that have at least `min_pixels` pixels of a
    224 frame, and of these the `max_masks` largest, the earlier of equal ones."""
    areas = masks.sum(axis=(1, 2))
    large = np.flatnonzero(areas * (FRAME / masks.shape[1]) ** 2 >= min_pixels)
    return np.sort(large[np.argsort(-areas[large], kind="stable")][:max_masks])
