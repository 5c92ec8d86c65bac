"""What the small SAM is asked while it learns: boxes and points of an image, and the masks that they mean.

H W: pixels of the image, B boxes, P points. Coordinates are pixels, x to the right, y down, a pixel's own
area from its index to the next.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.generators.toybirds import PARTS
from components.toybirds.birds import tight_box

BIRD, BACKGROUND = "bird", "background"
KINDS = (*PARTS, BIRD, BACKGROUND)
# how often a box is of each kind, among those in the image: small and hollow ones are hardest
SHARES = {
    "beak": 1.5,
    "crest": 2.0,
    "head": 1.0,
    "neck": 1.2,
    "wing": 1.0,
    "tail": 1.0,
    "feet": 1.2,
    "body": 1.6,
}
SHARES |= {BIRD: 1.6, BACKGROUND: 0.5}
BOXES, POINTS = 6, 2  # per image
EXACT, JITTER = 0.3, 0.1  # the share of exact boxes; how far others are off, of their side

Mask = NDArray[np.bool_]  # (H, W)


@dataclass(frozen=True)
class Prompts:
    """boxes float32 (B, 4), x0 y0 x1 y1, with box_masks bool (B, H, W); points float32 (P, 2) with the two
    masks that each may mean, bool (P, 2, H, W): its part and the bird, or twice the background."""

    boxes: NDArray[np.float32]
    box_masks: NDArray[np.bool_]
    points: NDArray[np.float32]
    point_masks: NDArray[np.bool_]


def true_masks(parts: NDArray[np.uint8]) -> dict[str, Mask]:
    """Those of KINDS that are in the image, by its parts (H, W): 0 background, k the k-th of PARTS."""
    masks = {part: parts == k for k, part in enumerate(PARTS, start=1)}
    masks |= {BIRD: parts > 0, BACKGROUND: parts == 0}
    return {kind: mask for kind, mask in masks.items() if mask.any()}


def draw_prompts(parts: NDArray[np.uint8], random: np.random.Generator) -> Prompts:
    """BOXES boxes and POINTS points of an image, by its pixels' parts (H, W)."""
    masks = true_masks(parts)
    shares = np.array([SHARES[kind] for kind in masks])
    asked = random.choice(list(masks), BOXES, p=shares / shares.sum())
    points, meant = zip(*(_point(masks, parts, random) for _ in range(POINTS)), strict=True)
    return Prompts(
        boxes=np.stack([_shaken(tight_box(masks[kind]), len(parts), random) for kind in asked]),
        box_masks=np.stack([masks[kind] for kind in asked]),
        points=np.stack(points),
        point_masks=np.stack(meant),
    )


def _shaken(box: NDArray[np.float32], side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """The box as a detector might find it: its centre and its sides a little off, inside the image."""
    if random.random() < EXACT:
        return box
    low, high = box[:2], box[2:]
    extent = high - low
    centre = (low + high) / 2 + extent * random.uniform(-JITTER, JITTER, 2)
    half = extent * random.uniform(1 - JITTER, 1 + JITTER, 2) / 2
    return np.clip(np.concatenate([centre - half, centre + half]), 0, side).astype(np.float32)


def _point(
    masks: dict[str, Mask], parts: NDArray[np.uint8], random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A point in a random part or in the background, and the two masks that it may mean."""
    kind = random.choice([name for name in masks if name != BIRD])
    y, x = random.choice(np.argwhere(masks[kind]))
    meant = [masks[kind], masks[BACKGROUND if kind == BACKGROUND else BIRD]]
    return (np.array([x, y]) + random.random(2)).astype(np.float32), np.stack(meant)
