"""How many things a stage that searches images found in them."""

import numpy as np
from numpy.typing import NDArray

from components.stage import Yield

MOST_EMPTY = 0.1  # share of images with nothing found above which the search has failed


def finds(things: str, counts: NDArray[np.int64]) -> Yield:
    """Of `counts` (n,) things found in n images: `<things>_per_image`, `<things>_most`, and `none_share`, the
    share of images in which there is none; a warning where that is above MOST_EMPTY."""
    none = float((counts == 0).mean()) if len(counts) else 0.0
    mean, most = (float(counts.mean()), int(counts.max())) if len(counts) else (0.0, 0)
    return Yield(
        {f"{things}_per_image": mean, f"{things}_most": most, "none_share": none},
        f"{mean:.1f} {things} an image (most {most}), none in {none:.0%} of the images",
        f"no {things} in {none:.0%} of the images" if none > MOST_EMPTY else "",
    )
