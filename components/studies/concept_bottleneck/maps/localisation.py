"""Whether concept maps point at the part that their concept names, on data sets with masks of parts.

n images, K concepts, P parts, S pixels of the frame, h w cells of a map.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.data.mask_files import IGNORE
from components.data.shown_concepts import named_parts
from components.method import LAST, Metric
from components.metrics.heatmaps import POINTING_TOLERANCE
from components.pixels.frames import Frame, framed_mask
from components.pixels.places import in_pixels
from components.studies.concept_bottleneck.maps.concept_maps import upsampled

Floats = NDArray[np.floating]
IMAGES_AT_ONCE = 256


def pointing_metrics(
    data: Data,
    split: str,
    concepts: Sequence[str],
    maps: Callable[[Ids], Floats],
    frame: Frame,
    middles: Floats | None = None,
    selection: str = LAST,
) -> list[Metric]:
    """The pointing game of the concepts that name a part of the card
    (docs/methods/concept_bottlenecks.md, "Localisation"), over the split's usable images that show the part:
    `pointing_accuracy`, the share of maps whose largest value lies on the part; `pointing_accuracy_15px`, or
    at most 15 pixels of a 224 frame from it; and with `_chance`, what a place at random would have. Group:
    the part; `all`, the mean over the parts.

    maps: of some ids (n, K, h, w), up-sampled to the card's image_size as `concept_maps.upsampled` does with
    these `middles`. No metric where the card has no parts, or no concept names one.
    """
    named = named_parts(concepts, data.card.parts)
    ids = data.usable_split(split).ids
    if not (named >= 0).any() or data.index.part_masks is None or len(ids) == 0:
        return []
    size = data.card.image_size
    sums: dict[str, dict[str, list[float]]] = {}
    for rows in blocks(len(ids), IMAGES_AT_ONCE):
        for image_id, of_image in zip(ids[rows], maps(ids[rows]), strict=True):
            (row,) = data.rows(np.array([image_id]))
            mask = data.part_mask(int(row))
            if mask is None:
                continue
            heat, parts = upsampled(of_image[named >= 0], size, middles), framed_mask(mask, size, frame)
            for part, found in _of_image(heat, named[named >= 0], parts):
                for name, value in found.items():
                    sums.setdefault(name, {}).setdefault(data.card.parts[part], []).append(value)
    metrics = []
    for name, by_part in sums.items():
        means = {part: float(np.mean(values)) for part, values in by_part.items()}
        metrics += [Metric(name, value, split, part, selection) for part, value in means.items()]
        metrics.append(Metric(name, float(np.mean(list(means.values()))), split, selection=selection))
    return metrics


def _of_image(
    heat: Floats, named: NDArray[np.int64], parts: NDArray[np.uint8]
) -> Iterator[tuple[int, dict[str, float]]]:
    """For each part in the image that a concept names: what its concepts' maps (K, S, S) hit. parts: (S, S),
    0, 1 + the position of a part, or IGNORE."""
    tolerance = in_pixels(POINTING_TOLERANCE, len(parts))
    labelled = parts != IGNORE
    heat = np.where(labelled, heat, -np.inf)
    largest = heat == heat.max(axis=(1, 2), keepdims=True)  # of several equal values, the share that hits
    for part in np.unique(named):
        shown = parts == part + 1
        if not shown.any():
            continue
        near = distance_transform_edt(~shown) <= tolerance
        pointed = largest[named == part]
        counts = pointed.sum(axis=(1, 2))
        yield (
            int(part),
            {
                "pointing_accuracy": float(((pointed & shown).sum(axis=(1, 2)) / counts).mean()),
                "pointing_accuracy_15px": float(((pointed & near).sum(axis=(1, 2)) / counts).mean()),
                "pointing_accuracy_chance": float(shown[labelled].mean()),
                "pointing_accuracy_15px_chance": float(near[labelled].mean()),
            },
        )
