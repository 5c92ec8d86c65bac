"""Segments in the square that a classifier sees, and those of them that are large enough to count."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.pixels.frames import Frame, framed_mask
from components.pixels.masks import FRAME, decode


def framed_segments(segments: pa.Table, row: int, size: int, frame: Frame) -> NDArray[np.bool_]:
    """Masks (S, size, size) of one row of a segment stage; one that lies outside the square is empty. One
    mask at a time is in memory as large as the image."""
    height, width = (segments[name][row].as_py() for name in ("height", "width"))
    counts = segments["counts"][row].as_py()
    masks = np.zeros((len(counts), size, size), bool)
    for square, run in zip(masks, counts, strict=True):
        square[:] = framed_mask(decode([run], height, width)[0], size, frame)
    return masks


def kept_masks(masks: NDArray[np.bool_], min_pixels: float, max_masks: int | None) -> NDArray[np.int64]:
    """Positions, ascending, of those of the masks (S, size, size) that have a pixel at all and at least
    `min_pixels` pixels of a 224 frame, and of these the `max_masks` largest, the earlier of equal ones."""
    areas = masks.sum(axis=(1, 2))
    large = np.flatnonzero((areas > 0) & (areas * (FRAME / masks.shape[1]) ** 2 >= min_pixels))
    return np.sort(large[np.argsort(-areas[large], kind="stable")][:max_masks])
