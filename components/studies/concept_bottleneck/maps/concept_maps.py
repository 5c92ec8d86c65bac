"""What can be read off concept maps, and edited in them: pure functions (SALF-CBM, sections 3.3 and 3.4;
docs/methods/concept_bottlenecks.md, "Concept maps").

M concepts, L classes, G_h x G_w cells of a map, S side of the square frame that was mapped, in pixels (see
`components.pixels.frames`). Maps are float (..., M, G_h, G_w), raw as the concept layer gives them; leading
axes are kept. So a video is explained frame by frame, its maps stacked to (T, M, G_h, G_w): no frame sees
another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.pixels.frames import Box

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]
Concepts = NDArray[np.int64]
Centering = Literal["none", "concept_mean"]
Preset = Literal["salf_demo", "standardised"]
CELLS = (-2, -1)  # axes
LEAST = 0.005  # of what a concept contributes, below which LF-CBM draws no bar


@dataclass(frozen=True, kw_only=True)
class ConceptHead:
    """What follows the concept maps: pooling to c* (M,), the standardisation of it, the final layer.

    weight (L, M), bias (L,); mean, std (M,): of c* over the training images, std above 0;
    pool: mean; max; topk, the mean of the `cells` largest; or the sum weighted by the softmax over the cells
    of the map / temperature, as in the released model of SALF-CBM. Raises ValueError if a std is not above 0.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    std: Floats
    pool: Literal["mean", "softmax", "max", "topk"] = "mean"
    temperature: float = 1.0
    cells: int = 5

    def __post_init__(self) -> None:
        if not (self.std > 0).all():
            raise ValueError("std must be above 0: a concept that never varies has no standardised value")

    def cell_weights(self, maps: Floats) -> Floats:
        """a (..., M, G_h, G_w), which add up to 1 over the cells: c* = sum of a c."""
        if self.pool == "softmax":
            scaled = maps / self.temperature
            exponentials = np.exp(scaled - scaled.max(axis=CELLS, keepdims=True))
            return exponentials / exponentials.sum(axis=CELLS, keepdims=True)
        flat = maps.reshape(*maps.shape[:-2], -1)
        n_cells = flat.shape[-1]
        k = {"mean": n_cells, "max": 1, "topk": min(self.cells, n_cells)}[self.pool]
        weights = np.zeros_like(flat)
        np.put_along_axis(weights, np.argsort(-flat, axis=-1, kind="stable")[..., :k], 1 / k, axis=-1)
        return weights.reshape(maps.shape)

    def pooled(self, maps: Floats) -> Floats:
        """c* (..., M)."""
        return (self.cell_weights(maps) * maps).sum(axis=CELLS)

    def pooling_gradient(self, maps: Floats) -> Floats:
        """What c* gains where a cell is raised: its derivative (..., M, G_h, G_w).

        The cells' weights; under the softmax, a (1 + (c - c*) / temperature), which is below 0 in cells that
        are weaker than c* - temperature.
        """
        weights = self.cell_weights(maps)
        if self.pool != "softmax":
            return weights
        return weights * (1 + (maps - self.pooled(maps)[..., None, None]) / self.temperature)

    def concepts(self, maps: Floats) -> Floats:
        """The standardised concepts (..., M), which the final layer reads."""
        return (self.pooled(maps) - self.mean) / self.std

    def logits(self, maps: Floats) -> Floats:
        """(..., L)."""
        return self.concepts(maps) @ self.weight.T + self.bias

    def contributions(self, maps: Floats, label: int) -> Floats:
        """What each concept adds to the logit of the class, (..., M); with the bias they add up to it."""
        return self.concepts(maps) * self.weight[label]

    def evidence(self, maps: Floats, cells: Booleans) -> Floats:
        """What each concept adds to each logit by some cells (G_h, G_w) of its map, (..., L, M): over cells
        that part the map, these add up to `contributions`."""
        n_cells = maps.shape[-2] * maps.shape[-1]
        parts = self.cell_weights(maps) * maps - self.mean[:, None, None] / n_cells
        return ((parts * cells).sum(axis=CELLS) / self.std)[..., None, :] * self.weight

    def standardised(self, maps: Floats) -> Floats:
        """The maps on one scale for all concepts: raw ones are comparable between images, not concepts."""
        return (maps - self.mean[:, None, None]) / self.std[:, None, None]

    def class_map(self, maps: Floats, label: int) -> Floats:
        """Where the logit of the class comes from, (..., G_h, G_w).

        Under mean pooling the mean over the cells, under any other their sum, is the logit less its bias,
        exactly.
        """
        if self.pool == "mean":
            return np.tensordot(self.standardised(maps), self.weight[label], axes=(-3, 0))
        n_cells = maps.shape[-2] * maps.shape[-1]
        parts = self.cell_weights(maps) * maps - self.mean[:, None, None] / n_cells
        return np.tensordot(parts, self.weight[label] / self.std, axes=(-3, 0))


class Rule(NamedTuple):
    """A weight of the final layer."""

    concept: int
    label: int
    weight: float


def global_rules(weight: Floats, least: float = 0.05) -> list[Rule]:
    """The weights of (L, M) with a magnitude above `least`, class by class, the strongest first: the links
    of a Sankey diagram, as wide as the magnitude; below 0, the concept's absence speaks for the class. The
    default is what LF-CBM draws."""
    return [
        Rule(int(concept), label, float(row[concept]))
        for label, row in enumerate(weight)
        for concept in np.argsort(-np.abs(row), kind="stable")
        if abs(row[concept]) > least
    ]


def strongest(contributions: Floats, k: int = 8, least: float = LEAST) -> Concepts:
    """At most k concepts of (M,) by the magnitude of what they contribute, which is above `least`, in
    descending order. The defaults are LF-CBM's bars."""
    order = np.argsort(-np.abs(contributions), kind="stable")[:k]
    return order[np.abs(contributions[order]) > least]


def upsampled(maps: Floats, size: int, middles: Floats | None = None) -> Floats:
    """The maps (..., G_h, G_w) bilinearly at the pixels of the frame, (..., S, S).

    middles: the pixels (G,) where the maps' values lie, along both axes, as
    `components.pixels.places.centres` gives them for circles; None: in the middles of G equal cells, as
    `interpolate(align_corners=False)` has it. Beyond the outermost the value stays.
    """
    rows, columns = (_interpolation(n, size, middles) for n in maps.shape[-2:])
    return rows @ maps @ columns.T


def concept_heatmap(
    maps: Floats, concept: int, size: int, centering: Centering = "none", middles: Floats | None = None
) -> Floats:
    """Where one concept is, (..., S, S): its map up-sampled; not clipped, with any scale.

    centering `concept_mean`: less the mean over all concepts in each cell, as SALF-CBM's demo draws it.
    """
    chosen = maps[..., concept, :, :]
    if centering == "concept_mean":
        chosen = chosen - maps.mean(axis=-3)
    return upsampled(chosen, size, middles)


def point_region(x: float, y: float, size: int) -> Booleans:
    """The pixel of the frame that the point lies in, (S, S); ValueError if the point lies outside."""
    if not (0 <= x < size and 0 <= y < size):
        raise ValueError(f"the point ({x}, {y}) lies outside a frame of {size} pixels")
    region = np.zeros((size, size), dtype=bool)
    region[int(y), int(x)] = True
    return region


def box_region(box: Box, size: int) -> Booleans:
    """The pixels of the frame whose middles lie in the box, (S, S)."""
    left, top, right, bottom = box
    middles = np.arange(size) + 0.5
    return np.outer((top <= middles) & (middles < bottom), (left <= middles) & (middles < right))


def region_activations(
    maps: Floats, region: Booleans, reduce: Literal["sum", "mean"] = "sum", middles: Floats | None = None
) -> Floats:
    """How strong each concept is in a region (S, S) of the frame: the sum (in the paper) or mean (in its
    demo) of the up-sampled map over the region, (..., M); ValueError if the region is empty.

    The M large maps are never made: the region goes down to the cells instead, by the transposed map.
    """
    area = int(region.sum())
    if area == 0:
        raise ValueError("the region has no pixel")
    rows, columns = (_interpolation(n, len(region), middles) for n in maps.shape[-2:])
    weights = rows.T @ region @ columns
    total = np.tensordot(maps, weights, axes=2)
    return total / area if reduce == "mean" else total


def region_concepts(
    head: ConceptHead,
    maps: Floats,
    region: Booleans,
    k: int = 5,
    normalise: Literal["standardise", "none"] = "standardise",
    middles: Floats | None = None,
) -> Concepts:
    """The k concepts that are strongest in the region, of maps (M, G_h, G_w), in descending order.

    normalise `none`: of the raw maps, whose scale differs from concept to concept, as in the paper's text.
    """
    chosen = head.standardised(maps) if normalise == "standardise" else maps
    return np.argsort(-region_activations(chosen, region, middles=middles), kind="stable")[:k]


def region_cells(region: Booleans, grid: tuple[int, int]) -> Booleans:
    """The cells (G_h, G_w) that a region (S, S) touches, as in SALF-CBM's demo: the region is resized
    bilinearly with anti-aliasing, and what is above 0 counts; so slightly more than it covers."""
    image = Image.fromarray(region.astype(np.float32))
    return np.asarray(image.resize(grid[::-1], Image.Resampling.BILINEAR)) > 0


@dataclass(frozen=True)
class Intervention:
    """maps (..., M, G_h, G_w) as edited, the logits (..., L) before and after it, and by how much the k
    edited concepts changed, standardised: (..., k)."""

    maps: Floats
    before: Floats
    after: Floats
    change: Floats
    sign_violations: Booleans  # (..., k): changed against beta, as softmax pooling may


def intervene(
    head: ConceptHead, maps: Floats, concepts: Sequence[int], cells: Booleans, beta: float, preset: Preset
) -> Intervention:
    """Raises some concepts, each named once, by beta in some cells (G_h, G_w) of their maps; then pooling,
    standardisation and final layer as ever. The maps given stay as they are.

    preset `salf_demo`: beta in units of the raw map (the demo's model pools by softmax); `standardised`: in
    those of the standardised concept, so that under mean pooling it changes by beta times the share of cells.
    """
    chosen = list(concepts)
    steps = np.full(len(chosen), beta) if preset == "salf_demo" else beta * head.std[chosen]
    edited = maps.copy()
    edited[..., chosen, :, :] += steps[:, None, None] * cells
    change = (head.concepts(edited) - head.concepts(maps))[..., chosen]
    return Intervention(edited, head.logits(maps), head.logits(edited), change, change * beta < 0)


def _interpolation(n_cells: int, size: int, middles: Floats | None) -> Floats:
    """Shares (S, G) of the cells in each pixel, linear between the cells' middles."""
    if middles is None:
        middles = (np.arange(n_cells) + 0.5) * size / n_cells - 0.5
    return np.stack([np.interp(np.arange(size), middles, one) for one in np.eye(n_cells)], axis=1)
