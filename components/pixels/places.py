"""Places of a grid over a square image, and the shapes drawn round them: masks, no pixels.

Source: SALF-CBM, section 3.1 and Algorithm 1. G: places per axis; S: side of the image in pixels. Lengths
are pixels of a 224 frame; on the image they are rounded to whole pixels (halves up), from 1 on unless 0.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FRAME = 224
Centres = Literal["stride", "fit", "cell"]


def in_pixels(length: float, size: int) -> int:
    """A length of the 224 frame on an image of `size` pixels."""
    return max(1, _rounded(length * size / FRAME)) if length > 0 else 0


def centres(grid_size: int, radius: float, size: int, kind: Centres) -> NDArray[np.float64]:
    """Coordinates (G,) of the places along one axis, ascending, in pixels.

    stride: d, 2d … Gd with d = floor(S / (G + 1)), as the paper defines it (its loop from r to G - r, in
    cells, is empty as printed); at the border a circle is cut. fit: evenly from r to S - 1 - r, so that no
    circle is cut. cell: (k - 1/2) S / G, where the cells of a feature map lie.
    Raises ValueError if the grid or the circle is too large for the image.
    """
    stride = size // (grid_size + 1)
    if stride < 1:
        raise ValueError(f"grid_size {grid_size} is too large for an image of {size} pixels")
    steps = np.arange(1, grid_size + 1)
    if kind == "stride":
        return (stride * steps).astype(np.float64)
    if kind == "cell":
        return (steps - 0.5) * size / grid_size
    room = size - 1 - 2 * in_pixels(radius, size)
    if room < 0 or (room == 0 and grid_size > 1):
        raise ValueError(f"circles of radius {radius} (pixels of {FRAME}) do not fit into the image")
    return (size - 1) / 2 + (steps - (grid_size + 1) / 2) * room / max(grid_size - 1, 1)


def spans(middles: Iterable[float], radius: float, size: int) -> list[slice]:
    """The pixels that a circle round each of these coordinates covers along one axis, inside the image."""
    r = in_pixels(radius, size)
    return [slice(max(0, _rounded(c) - r), min(size, _rounded(c) + r + 1)) for c in middles]


def rings(middles: Iterable[float], radius: float, line_width: float, size: int) -> NDArray[np.bool_]:
    """Outlines of the circles round all places, bool (G*G, S, S), row (y) by row: Pillow's own, which grow
    inwards from the radius. The image's border cuts them."""
    width = in_pixels(line_width, size)
    return _drawn(middles, in_pixels(radius, size), size, outline=1, width=width)


def discs(middles: Iterable[float], radius: float, size: int) -> NDArray[np.bool_]:
    """The same circles, filled."""
    return _drawn(middles, in_pixels(radius, size), size, fill=1)


def _drawn(middles: Iterable[float], radius: int, size: int, **style: int) -> NDArray[np.bool_]:
    whole = [_rounded(coordinate) for coordinate in middles]
    masks = []
    for y in whole:
        for x in whole:
            mask = Image.new("1", (size, size))
            ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), **style)
            masks.append(np.asarray(mask))
    return np.stack(masks)


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))
