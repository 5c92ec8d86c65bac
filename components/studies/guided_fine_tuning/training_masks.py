"""The masks that fine-tuning pulls a network's evidence into, and its controls.

They are described in docs/methods/guided_fine_tuning.md, "Masks" and "Controls".

S pixels a side of the square that images are resized to before they are cropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from components.data.columns import Data, Ids
from components.data.mask_files import IGNORE
from components.identity import rng
from components.pixels.frames import framed, framed_mask
from components.studies.guided_fine_tuning.concept_masks import (
    Booleans,
    ConceptRules,
    image_concepts,
    object_mask,
)

MaskSource = Literal["concepts", "object", "class_name", "random", "inverted", "whole_image"]
OBJECTS = ("object", "class_name")  # the others are the concepts' masks, or made from them
LARGEST = 0.9  # share of the image above which a mask says nothing


@dataclass(frozen=True)
class GuidedImages:
    """What is trained on: images uint8 (n, S, S, 3); masks uint8 (n, S, S), 1 inside, 0 beside and IGNORE
    where a pixel counts nowhere; ids and labels int64 (n,); and how many images were dropped for an empty
    mask, or for one of more than LARGEST of the pixels that count."""

    ids: Ids
    labels: Ids
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    masks_empty: int
    masks_too_large: int


def guided_images(
    data: Data,
    ids: Ids,
    labels: Ids,
    source: MaskSource,
    kept: Booleans,
    rules: ConceptRules,
    side: int,
    dilation: int,
    seed: int,
) -> GuidedImages:
    """The images, squashed to S = `side` pixels, with their masks of the source; `kept` (L, K) are the
    concepts of each class, `dilation` is in pixels of the square.

    Controls are made after images were dropped, so they have the same images as `concepts`: `random`, a box
    of the same area at a random place, by image and seed; `inverted`, what is not in the mask.
    """
    squares, masks, dropped = [], [], {"empty": 0, "large": 0}
    rows = []
    sources = zip(data.images(ids), _masks(data, ids, labels, source, kept, rules), strict=True)
    for row, (image, found) in enumerate(sources):
        mask = np.zeros(image.shape[:2], np.uint8) if found is None else found
        if mask.shape != image.shape[:2]:
            raise ValueError(f"image {ids[row]}: mask {mask.shape} does not fit image {image.shape[:2]}")
        labelled = framed_mask(mask, side, "squash")
        counts = labelled != IGNORE
        square = dilated(labelled == 1, dilation)
        if not square.any() or square[counts].mean() > LARGEST:
            dropped["large" if square.any() else "empty"] += 1
            continue
        rows.append(row)
        squares.append(framed(image, side, "squash"))
        masks.append(np.where(counts, control(square, source, seed, int(ids[row])), IGNORE).astype(np.uint8))
    return GuidedImages(
        ids[rows],
        labels[rows],
        np.stack(squares) if squares else np.zeros((0, side, side, 3), np.uint8),
        np.stack(masks) if masks else np.zeros((0, side, side), np.uint8),
        dropped["empty"],
        dropped["large"],
    )


def _masks(
    data: Data, ids: Ids, labels: Ids, source: MaskSource, kept: Booleans, rules: ConceptRules
) -> Iterator[Booleans | NDArray[np.uint8] | None]:
    """The masks (H, W) before anything is made of them, 1 or True inside; None where there is none."""
    if source not in OBJECTS:
        for label, found in zip(labels, image_concepts(data, ids, rules), strict=True):
            yield found.union(kept[label])
        return
    for image_id, label in zip(ids, labels, strict=True):
        yield object_mask(data, int(image_id), rules, int(label), by_name=source == "class_name")


def dilated(mask: Booleans, pixels: int) -> Booleans:
    """The mask and all that is at most `pixels` from it."""
    if pixels == 0 or not mask.any():
        return mask
    near: Booleans = distance_transform_edt(~mask) <= pixels
    return near


def control(mask: Booleans, source: MaskSource, seed: int, image_id: int) -> Booleans:
    """What the source makes of a mask (S, S)."""
    if source == "random":
        return random_box(int(mask.sum()), len(mask), rng(seed, "random masks", image_id))
    if source == "inverted":
        return ~mask
    return np.ones_like(mask) if source == "whole_image" else mask


def random_box(area: int, side: int, stream: np.random.Generator) -> Booleans:
    """A box of exactly `area` pixels, the last of its rows cut, of an aspect ratio between 1:2 and 2:1 where
    the square has the room, at a random place in it: bool (side, side)."""
    wished = round(float(np.sqrt(area * 2 ** stream.uniform(-1, 1))))
    width = min(max(wished, -(-area // side), 1), side)
    height = -(-area // width)
    top, left = (int(stream.integers(side - extent + 1)) for extent in (height, width))
    box = np.zeros((side, side), bool)
    cells = np.zeros(height * width, bool)
    cells[:area] = True
    box[top : top + height, left : left + width] = cells.reshape(height, width)
    return box


def cropped(
    guided: GuidedImages, rows: NDArray[np.int64], size: int, stream: np.random.Generator | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (B, size, size, 3) and masks (B, size, size) of these rows, each pair cut at one random place
    and half of the pairs mirrored; without a stream, their middles."""
    images = np.empty((len(rows), size, size, 3), np.uint8)
    masks = np.empty((len(rows), size, size), np.uint8)
    room = guided.masks.shape[1] - size
    for place, row in enumerate(rows):
        top, left, mirror = (room // 2, room // 2, 0) if stream is None else (
            int(stream.integers(room + 1)), int(stream.integers(room + 1)), int(stream.integers(2)),
        )  # fmt: skip
        window = (slice(top, top + size), slice(left, left + size))
        step = -1 if mirror else 1
        images[place] = guided.images[row][window][:, ::step]
        masks[place] = guided.masks[row][window][:, ::step]
    return images, masks
