"""Masks of objects as data sets store them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IGNORE = 255  # pixels that count nowhere
MAJORITY = 127.5  # of a grey mask, white where all annotators agree


def read_mask(path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W): 1 the object, 0 the rest, IGNORE what counts nowhere.

    By what is in the file: 0 and 1 (and IGNORE) are these values themselves; other greys, as of CUB-200-2011,
    say which share of the annotators saw the object there, and half of them are enough. OSError if it cannot
    be read, ValueError if it is no grey or binary picture.
    """
    with Image.open(path) as file:
        values = np.asarray(file)
    if values.ndim != 2:
        raise ValueError(f"mask {path.name}: {values.ndim} axes, expected a grey or binary picture")
    if values.dtype == bool or (set(np.unique(values)) <= {0, 1, IGNORE} and (values == 1).any()):
        return values.astype(np.uint8)
    return (values > MAJORITY).astype(np.uint8)
