"""How an image of any shape, and its mask, becomes the square that a model takes."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.images import resized

Frame = Literal["squash", "center_crop", "center_crop_256"]
Box = tuple[float, float, float, float]  # left, top, right, bottom
RESIZED = {"center_crop": 224, "center_crop_256": 256}  # the shorter side, before a crop of 224 pixels


def framed(image: NDArray[np.uint8], size: int, frame: Frame) -> NDArray[np.uint8]:
    """The image (H, W, 3) as uint8 (size, size, 3), bilinear with anti-aliasing.

    squash: both sides to `size`, the aspect ratio lost; center_crop: the shorter side to `size`, then the
    middle (docs/methods/concept_bottlenecks.md, "Red circles" says why); center_crop_256: the shorter side to
    256 pixels for a `size` of 224, then the middle, as ImageNet is evaluated. In one step, which a very long
    image needs; torchvision's Resize and CenterCrop are two, and differ by one grey level in few pixels.
    """
    if frame == "squash":
        return resized(image, size)
    height, width = image.shape[:2]
    box = frame_box(height, width, size, frame)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def framed_mask(mask: NDArray[np.uint8] | NDArray[np.bool_], size: int, frame: Frame) -> NDArray[np.uint8]:
    """The mask as uint8 (size, size), each pixel that of the mask which its centre lies in: the frame of
    `framed`, which is how the image of this mask was made a square."""
    height, width = mask.shape
    box = frame_box(height, width, size, frame)
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.NEAREST, box=box))


def frame_box(height: int, width: int, size: int, frame: Frame) -> Box:
    """What `framed` shows of an image, in pixels of the image."""
    if frame == "squash":
        return (0, 0, width, height)
    shorter = round(size * RESIZED[frame] / 224)
    left, right = _span(width, height, size, shorter)
    top, bottom = _span(height, width, size, shorter)
    return (left, top, right, bottom)


def _span(side: int, other: int, size: int, shorter: int) -> tuple[float, float]:
    """Where the crop lies along a side. It is cut after resizing, from whole pixels, as torchvision does."""
    resized_side = shorter if side <= other else shorter * side // other
    first = round((resized_side - size) / 2)
    scale = side / resized_side
    return first * scale, min((first + size) * scale, side)
