"""Backgrounds of the toy birds: photographs of textures, tinted, and drawn water.

The photographs (grass, gravel, brick: 512×512, grey) come with scikit-image and are in the public
domain (CC0). Each split crops them from columns of its own, so no split sees another's pixels.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

TEXTURES = {"land": ("grass", "gravel", "brick"), "water": ("water",)}
REGIONS = {"train": (0, 256), "val": (256, 376), "test": (376, 512)}  # columns [first, last)
CROP = (64, 112)  # smallest and largest side of a crop, pixels of the photograph
TINTS = {
    "grass": (0.42, 0.66, 0.24),
    "gravel": (0.68, 0.62, 0.54),
    "brick": (0.76, 0.46, 0.34),
    "water": (0.24, 0.50, 0.78),
}


def background(random: np.random.Generator, texture: str, split: str, size: int) -> NDArray[np.float64]:
    """A tinted piece of `texture` that `split` owns: (size, size, 3), red green blue in [0, 1]."""
    grey = ripples(random, size) if texture == "water" else crop(random, texture, split, size)
    tint = np.array(TINTS[texture]) + random.uniform(-0.08, 0.08, 3)
    return np.clip(tint * (0.45 + 1.1 * grey[..., None]), 0, 1)


def fogged(image: NDArray[np.float64], amount: float, random: np.random.Generator) -> NDArray[np.float64]:
    """`image` blended with one random plain colour; amount 0 is the image, 1 the colour."""
    return (1 - amount) * image + amount * random.uniform(0.1, 0.9, 3)


def crop(random: np.random.Generator, texture: str, split: str, size: int) -> NDArray[np.float64]:
    """A random square of the split's columns, resized: (size, size), grey in [0, 1]."""
    first, last = REGIONS[split]
    side = int(random.integers(CROP[0], CROP[1] + 1))
    photograph = _photograph(texture)
    x = int(random.integers(first, last - side + 1))
    y = int(random.integers(0, len(photograph) - side + 1))
    piece = Image.fromarray(photograph[y : y + side, x : x + side])
    return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR)) / 255.0


def ripples(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Drawn water, long crests across the image: (size, size), grey in [0, 1]."""
    y, x = np.mgrid[0:size, 0:size] / size
    height = 0.3 * random.standard_normal((size, size))
    for _ in range(4):
        waves, slant, phase = random.uniform(4, 13), random.uniform(-2.5, 2.5), random.uniform(0, 7)
        bend = 0.4 * np.sin(2 * np.pi * random.uniform(1, 3) * x + phase)
        height += np.sin(2 * np.pi * (waves * y + slant * x) + bend + phase)
    return np.clip(0.5 + 0.14 * height, 0, 1)


@cache
def _photograph(texture: str) -> NDArray[np.uint8]:
    return np.asarray(getattr(data, texture)(), dtype=np.uint8)
