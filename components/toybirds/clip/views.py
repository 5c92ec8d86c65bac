"""Views of a toy bird as CLIP sees them, with a red circle or cut out, and the words for what they show."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from components.data.generators.toybirds import PARTS
from components.pixels.crops import segment_crops
from components.toybirds.birds import Pixels, Shown

RED = (255, 0, 0)


def caption(shown: Shown, with_background: bool = True) -> str:
    """Everything that is shown, in one sentence."""
    named = [
        shown[part] for part in ("beak", "neck", "tail", "feet", "crest", "wing", "body") if part in shown
    ]
    return f"a bird with {', '.join(named)}" + (f" on {shown['background']}" if with_background else "")


def circled(image: Pixels, x: float, y: float, radius: float) -> Pixels:
    """`image` with a red circle of 1 pixel round (x, y); what lies beyond the frame is cut off."""
    picture = Image.fromarray(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(picture).ellipse(box, outline=RED, width=1)
    return np.asarray(picture)


def crop(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """One segment, cut out as the stages do it; the mask must not be empty."""
    return np.asarray(segment_crops(image, mask[None], len(image))[0])


def part_name(index: int) -> str:
    """What a pixel of a parts image shows: one of PARTS, or "background" for 0."""
    return PARTS[index - 1] if index else "background"
