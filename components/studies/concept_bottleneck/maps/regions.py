"""What concept maps say in one region of an image, and what an edit there changes (SALF-CBM, 3.3 and 3.4).

M concepts, L classes, G_h x G_w cells, S side of the frame in pixels, as in `maps.concept_maps`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.method import LAST, Fitted
from components.pixels.frames import Box, Frame, frame_box, framed_mask
from components.stage import Size
from components.studies.concept_bottleneck.maps.concept_maps import (
    Booleans,
    ConceptHead,
    Floats,
    Intervention,
    box_region,
    intervene,
    region_activations,
    region_cells,
    region_concepts,
)

BETA = 3.0  # standard deviations of a concept, by which pictures edit it


@runtime_checkable
class HasConceptMaps(Protocol):
    """A method whose concepts have a place in the square frame that its backbone sees."""

    @property
    def frame(self) -> Frame: ...

    def maps(self, fitted: Fitted, data: Data, ids: Ids) -> NDArray[np.float32]:
        """Raw concept maps (n, M, G, G)."""
        ...

    def middles(self, side: int) -> NDArray[np.float64]:
        """Where the cells lie along an axis of a frame of `side` pixels, (G,)."""
        ...

    def head(self, fitted: Fitted, selection: str = LAST) -> ConceptHead:
        """What follows the maps."""
        ...


@dataclass(frozen=True)
class RegionExplanation:
    """region (S, S); the k strongest concepts in it, and the mean of their standardised maps over it, (k,);
    and what changes when `edited` is raised by `beta` of its standard deviations in the region's cells."""

    region: Booleans
    concepts: NDArray[np.int64]
    activations: Floats
    edited: int
    beta: float
    intervention: Intervention


def explain_region(
    head: ConceptHead,
    maps: Floats,
    region: Booleans,
    label: int,
    k: int = 5,
    middles: Floats | None = None,
    edit: tuple[int, float] | None = None,
) -> RegionExplanation:
    """Of maps (M, G_h, G_w). edit: concept and beta; None: the concept that is most at fault if the image is
    not of class `label`, or else most to thank, is moved by BETA against the prediction, see `decisive`.

    Raises ValueError if the region is empty.
    """
    concepts = region_concepts(head, maps, region, k, middles=middles)
    strength = region_activations(head.standardised(maps), region, "mean", middles)[concepts]
    cells = region_cells(region, (maps.shape[-2], maps.shape[-1]))
    edited, beta = edit if edit is not None else decisive(head, maps, cells, label)
    changed = intervene(head, maps, [edited], cells, beta, "standardised")
    return RegionExplanation(region, concepts, strength, edited, beta, changed)


def decisive(head: ConceptHead, maps: Floats, cells: Booleans, label: int) -> tuple[int, float]:
    """The concept that adds most, by these cells, to the predicted class before its rival; and BETA with the
    sign that takes it away. The rival is class `label`, or the second best if that is predicted."""
    order = np.argsort(-head.logits(maps), kind="stable")
    predicted = order[0]
    rival = label if label != predicted else order[1]
    evidence = head.evidence(maps, cells)
    concept = int(np.argmax(evidence[predicted] - evidence[rival]))
    return concept, -BETA * float(np.sign(head.weight[predicted, concept] - head.weight[rival, concept]))


def shown_region(
    data: Data, image_id: int, frame: Frame, class_map: Floats, middles: Floats
) -> tuple[Booleans, str]:
    """The region (S, S) of an image that its picture asks about, and its name: of the parts that the data set
    has masks of, the one where the map (G, G) of the predicted class is highest; else the object; else the
    box of the map's highest cell."""
    size = data.card.image_size
    masks = dict(_masks(data, image_id, frame))
    if masks:
        means = {n: float(region_activations(class_map, m, "mean", middles)) for n, m in masks.items()}
        name = max(means, key=lambda n: means[n])
        return masks[name], name
    row, column = np.unravel_index(int(np.argmax(class_map)), class_map.shape)
    edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [size]])
    box = (edges[column], edges[row], edges[column + 1], edges[row + 1])
    return box_region(box, size), "the cell that counts most"


def _masks(data: Data, image_id: int, frame: Frame) -> Iterator[tuple[str, Booleans]]:
    """Of an image's parts that the frame shows; without any, of its object."""
    row = int(data.rows(np.array([image_id]))[0])
    side = data.card.image_size
    parts, whole = data.part_mask(row), data.object_mask(row)
    named = []
    if parts is not None:
        shown = framed_mask(parts, side, frame)
        found = [(name, shown == place) for place, name in enumerate(data.card.parts, start=1)]
        named = [(name, mask) for name, mask in found if mask.any()]
    if not named and whole is not None:
        of_object = framed_mask(whole, side, frame) == 1
        named = [("the object", of_object)] if of_object.any() else []
    yield from named


def in_frame(box: Box, image: Size, side: int, frame: Frame) -> Box:
    """A box in pixels of the image (H, W) as one in pixels of the square frame, cut at its border."""
    left, top, right, bottom = frame_box(*image, side, frame)
    across, down = side / (right - left), side / (bottom - top)
    x0, y0 = ((box[0] - left) * across, (box[1] - top) * down)
    x1, y1 = ((box[2] - left) * across, (box[3] - top) * down)
    return (max(x0, 0), max(y0, 0), min(x1, side), min(y1, side))
