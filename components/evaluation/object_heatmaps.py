"""How well heatmaps find the objects of a data set with masks of them. n images, S pixels of the frame."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.method import LAST, Metric
from components.metrics.heatmaps import (
    POINTING_TOLERANCE,
    Floats,
    SegmentationScores,
    pointing_accuracy,
    pointing_hit,
    relevance_mass,
)
from components.pixels.frames import Frame, framed_mask
from components.pixels.places import in_pixels

Heatmaps = Callable[[Ids], Floats]  # of some ids (n,): (n, S, S), S the card's image_size
IMAGES_AT_ONCE = 32


def segmentation_metrics(
    data: Data, split: str, heatmaps: Heatmaps, frame: Frame, suffix: str = "", selection: str = LAST
) -> list[Metric]:
    """The heatmaps of the split's usable images as segmentations of their objects, by the protocol of
    ImageNet-Segmentation (docs/methods/explanations.md, "ImageNet-Segmentation"; see
    `SegmentationScores`), in the frame that the backbone sees. Images without a mask are left out; no metric
    where all are.

    suffix: put to the names, which tells several heatmaps of one method apart.
    """
    scores = SegmentationScores()
    for _, heatmap, mask in _with_objects(data, split, heatmaps, frame):
        scores.add(heatmap, mask)
    found = scores.metrics().items()
    return [Metric(name + suffix, value, split, selection=selection) for name, value in found]


def object_pointing_metrics(
    data: Data, split: str, heatmaps: Heatmaps, frame: Frame, selection: str = LAST
) -> list[Metric]:
    """The pointing game on objects (docs/methods/explanations.md, "Pointing game"), as means over the
    classes, and the share of the heatmaps' mass on them: `object_pointing_accuracy`, `…_15px` with a
    tolerance of 15 pixels of a 224 frame, `object_relevance_mass`; and `…_chance`, what a place at random, or
    a constant map, would have."""
    tolerance = in_pixels(POINTING_TOLERANCE, data.card.image_size)
    rows = [
        (
            data.index.labels[row],
            pointing_hit(heatmap, mask, 0),
            pointing_hit(heatmap, mask, tolerance),
            relevance_mass(heatmap, mask),
            relevance_mass(np.zeros_like(heatmap), mask),
        )
        for row, heatmap, mask in _with_objects(data, split, heatmaps, frame)
    ]
    if not rows:
        return []
    classes, hits, near, mass, chance = np.array(rows).T
    numbers = {
        "object_pointing_accuracy": pointing_accuracy(hits, classes.astype(np.int64)),
        "object_pointing_accuracy_15px": pointing_accuracy(near, classes.astype(np.int64)),
        "object_relevance_mass": float(np.nanmean(mass)),
        "object_relevance_mass_chance": float(np.nanmean(chance)),
    }
    return [Metric(name, value, split, selection=selection) for name, value in numbers.items()]


def _with_objects(
    data: Data, split: str, heatmaps: Heatmaps, frame: Frame
) -> Iterator[tuple[int, Floats, NDArray[np.uint8]]]:
    """Row in the index, heatmap and object mask, both (S, S), of the images; a block of them at once."""
    ids = data.usable_split(split).ids
    found = [data.index.beside(data.index.masks, int(row)) for row in data.rows(ids)]
    kept = ids[[path is not None and path.is_file() for path in found]]
    for part in blocks(len(kept), IMAGES_AT_ONCE):
        pairs = zip(data.rows(kept[part]), heatmaps(kept[part]), strict=True)
        for row, heatmap in pairs:
            mask = data.object_mask(int(row))
            if mask is not None:
                yield int(row), heatmap, framed_mask(mask, data.card.image_size, frame)
