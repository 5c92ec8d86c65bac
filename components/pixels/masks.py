"""Binary masks as COCO run lengths: coding, areas, overlaps. H W pixels, S segments."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

FRAME = 224  # configurations give lengths and areas in pixels of a FRAME x FRAME image


def encode(masks: NDArray[np.bool_]) -> list[bytes]:
    """COCO run-length counts of each of the masks (S, H, W)."""
    columns = np.asfortranarray(np.moveaxis(masks, 0, -1).astype(np.uint8))
    return [run["counts"] for run in coco.encode(columns)]


def decode(counts: Sequence[bytes], height: int, width: int) -> NDArray[np.bool_]:
    """Masks (S, H, W) of the given counts."""
    if len(counts) == 0:
        return np.zeros((0, height, width), dtype=bool)
    return np.moveaxis(coco.decode(_runs(counts, height, width)), -1, 0).astype(bool)


def iou(counts: Sequence[bytes], height: int, width: int) -> NDArray[np.float64]:
    """Intersection over union of every pair of masks: (S, S), in [0, 1]."""
    runs = _runs(counts, height, width)
    return np.asarray(coco.iou(runs, runs, [0] * len(runs))).reshape(len(runs), len(runs))


def iou_with(one: bytes, others: Sequence[bytes], height: int, width: int) -> NDArray[np.float64]:
    """Intersection over union of one mask with each of the others: (S,)."""
    if len(others) == 0:
        return np.zeros(0)
    pair = _runs([one], height, width), _runs(others, height, width)
    return np.asarray(coco.iou(*pair, [0] * len(others))).reshape(-1)


def union(counts: Sequence[bytes], height: int, width: int) -> bytes:
    """Run lengths of the union of at least one mask."""
    return bytes(coco.merge(_runs(counts, height, width))["counts"])


def without(one: bytes, other: bytes, height: int, width: int) -> bytes:
    """Run lengths of what is in one mask and not in another."""
    both = decode([one, other], height, width)
    return encode((both[0] & ~both[1])[None])[0]


def areas(counts: Sequence[bytes], height: int, width: int) -> NDArray[np.int64]:
    """Pixels of each mask: (S,)."""
    runs = _runs(counts, height, width)  # one by one: of more than 255 at once, pycocotools overflows
    return np.array([coco.area(run) for run in runs], dtype=np.int64)


def boxes(counts: Sequence[bytes], height: int, width: int) -> NDArray[np.float64]:
    """Tight box of each mask as x, y, width, height in pixels: (S, 4)."""
    return np.asarray(coco.toBbox(_runs(counts, height, width))).reshape(-1, 4)


def in_image_pixels(area: float, height: int, width: int, pixel_frame: str) -> float:
    """An area of a configuration, in pixels of this image.

    `pixel_frame` "224": the area is meant in a 224 x 224 frame and is scaled; "native": as it is.
    """
    return area if pixel_frame == "native" else area * height * width / FRAME**2


def _runs(counts: Sequence[bytes], height: int, width: int) -> list[dict[str, object]]:
    return [{"size": [height, width], "counts": bytes(count)} for count in counts]
