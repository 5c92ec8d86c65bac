"""Concept bottleneck models as segmenters of objects: which of their maps are asked (SALF-CBM, Table 2, does
not say; docs/methods/concept_bottlenecks.md, "Concept maps as segmenters").

n images, K concepts, L classes, G_h x G_w cells, S pixels of the frame; maps (n, K, G_h, G_w), raw.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.evaluation.object_heatmaps import segmentation_metrics
from components.method import LAST, Metric
from components.metrics.heatmaps import Floats
from components.pixels.frames import Frame
from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead, concept_heatmap, upsampled

Classes = NDArray[np.int64]
STRONGEST = "_strongest_concept"  # put to the names of its metrics


def concept_segmentation_metrics(
    data: Data,
    split: str,
    head: ConceptHead,
    maps: Callable[[Ids], Floats],
    predicted: Callable[[Ids], Classes],
    frame: Frame,
    middles: Floats | None = None,
    selection: str = LAST,
) -> list[Metric]:
    """Scores of two heatmaps of the predicted class: where its logit comes from (plain names, as of any
    heatmap), and its strongest concept (names that end on STRONGEST)."""

    def of_class(ids: Ids) -> Floats:
        return class_heatmaps(head, maps(ids), predicted(ids), data.card.image_size, middles)

    def of_concept(ids: Ids) -> Floats:
        return strongest_concept_heatmaps(head, maps(ids), predicted(ids), data.card.image_size, middles)

    return [
        *segmentation_metrics(data, split, of_class, frame, selection=selection),
        *segmentation_metrics(data, split, of_concept, frame, STRONGEST, selection),
    ]


def class_heatmaps(
    head: ConceptHead, maps: Floats, classes: Classes, size: int, middles: Floats | None = None
) -> Floats:
    """The class map of one class (n,) in each image, up-sampled: (n, S, S)."""
    pairs = zip(maps, classes, strict=True)
    return np.stack([upsampled(head.class_map(image, int(label)), size, middles) for image, label in pairs])


def strongest_concept_heatmaps(
    head: ConceptHead, maps: Floats, classes: Classes, size: int, middles: Floats | None = None
) -> Floats:
    """As SALF-CBM's demo draws it: of the concept that contributes most, by magnitude, to the class, the map
    less the mean over all concepts in each cell, up-sampled: (n, S, S). 0 where no concept contributes."""

    def heatmap(of_image: Floats, label: int) -> Floats:
        strength = np.abs(head.contributions(of_image, label))
        if not strength.any():
            return np.zeros((size, size))
        return concept_heatmap(of_image, int(strength.argmax()), size, "concept_mean", middles)

    return np.stack([heatmap(image, int(label)) for image, label in zip(maps, classes, strict=True)])
