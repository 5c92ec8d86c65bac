"""Segments as square inputs of a model: tight box with a margin, one colour outside the mask."""

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.images import resized
from components.pixels import masks

MARGIN = 0.1  # of the box's sides, on each side
GREY = 128

# image_mean: the image's mean colour, which tells every segment something of its surroundings; grey: the same
# for all images (docs/methods/seg_mil.md, "From a segment to a vector")
Outside = Literal["image_mean", "grey"]


def segment_crops(
    image: NDArray[np.uint8], segments: NDArray[np.bool_], size: int, outside: Outside = "image_mean"
) -> NDArray[np.uint8]:
    """uint8 (S, size, size, 3) of the image (H, W, 3) and its segments (S, H, W).

    outside: what pixels beside the mask become: all of them where the mask is empty.
    """
    mean = image.mean(axis=(0, 1)).round().astype(np.uint8)
    colour = mean if outside == "image_mean" else np.full(3, GREY, np.uint8)
    crops = [_crop(image, segment, colour, size) for segment in segments]
    return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)


def _crop(
    image: NDArray[np.uint8], segment: NDArray[np.bool_], colour: NDArray[np.uint8], size: int
) -> NDArray[np.uint8]:
    rows, columns = np.asarray(segment.any(axis=1)), np.asarray(segment.any(axis=0))
    if not rows.any():
        return np.broadcast_to(colour, (size, size, 3))
    window = (_span(rows), _span(columns))
    filled = np.where(segment[window][..., None], image[window], colour)
    return resized(filled, size)


def _span(occupied: NDArray[np.bool_]) -> slice:
    (positions,) = np.nonzero(occupied)
    first, last = int(positions[0]), int(positions[-1]) + 1
    margin = round(MARGIN * (last - first))
    return slice(max(0, first - margin), min(len(occupied), last + margin))


def stored_masks(segments: pa.Table, row: int) -> NDArray[np.bool_]:
    """Masks (S, H, W) of one row of the stage `segments`."""
    height, width = (segments[name][row].as_py() for name in ("height", "width"))
    return masks.decode(segments["counts"][row].as_py(), height, width)
