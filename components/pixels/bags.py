"""Bags: which segments of an image a multiple-instance method sees. The one read-time filter of all.

n images, S segments of one image, N bag size, K concepts, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Column, Ids, ragged, ragged_vectors
from components.pixels import masks

Floats = NDArray[np.float32]
WHOLE_IMAGE = -1  # stands for the segment (and its concept) where no segment survived


@dataclass(frozen=True)
class BoxRules:
    """Which of a detector's boxes count: those of the image's first `k_top` concepts, with a score of at
    least `threshold`, and of each concept the best `per_concept`."""

    k_top: int
    threshold: float
    per_concept: int


@dataclass(frozen=True)
class BagRules:
    """The thresholds, in the order in which they act: docs/methods/seg_mil.md, "Which segments are in a bag".

    k_top: concepts an image keeps; boxes: of segments that a detector found;
    tau_min_pixels: least area; rho_max: largest share of the image;
    tau_iou: of two masks that overlap more, the better scored stays; merge: and it keeps its own embedding,
    or takes the area-weighted mean of those that it stands for (approximate: they were encoded apart);
    bag_size: best scored that stay.
    """

    k_top: int
    tau_min_pixels: float
    rho_max: float
    tau_iou: float
    bag_size: int
    pixel_frame: Literal["224", "native"]
    merge: Literal["keep", "mean"] = "keep"
    boxes: BoxRules | None = None


class Mixture(NamedTuple):
    """A place in a bag that stands for several segments: their positions and weights, which add up to 1."""

    row: int
    place: int
    segments: NDArray[np.int64]
    weights: Floats


@dataclass(frozen=True)
class Bags:
    """n bags padded to N: best score first, invalid entries at the end.

    segments int64 (n, N): position in the stage's segments, WHOLE_IMAGE for the fallback;
    concepts int64 (n, N): index in the vocabulary or WHOLE_IMAGE; scores, areas float32 (n, N): cosine or
    the detector's score, and share of the image; valid bool (n, N), at least one per row.
    """

    ids: Ids
    segments: NDArray[np.int64]
    concepts: NDArray[np.int64]
    scores: Floats
    areas: Floats
    valid: NDArray[np.bool_]
    mixtures: tuple[Mixture, ...] = ()

    @property
    def fallback(self) -> NDArray[np.bool_]:
        """Which images are one whole-image segment: bool (n,)."""
        return self.valid[:, 0] & (self.segments[:, 0] == WHOLE_IMAGE)

    def gather(self, per_segment: Floats, counts: NDArray[np.int64], whole: Floats) -> Floats:
        """Vectors of the bags' segments, zero where invalid: (n, N, D).

        per_segment (sum of S, D) and counts (n,) as stored, image after image; whole (n, D) of the images.
        """
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[:, None]
        everything = np.concatenate([per_segment, whole])
        n = np.arange(len(self.ids))[:, None]
        rows = np.where(self.segments == WHOLE_IMAGE, len(per_segment) + n, starts + self.segments)
        vectors = everything[np.where(self.valid, rows, 0)]
        vectors[~self.valid] = 0
        for row, place, segments, weights in self.mixtures:
            vectors[row, place] = weights @ per_segment[starts[row, 0] + segments]
        return vectors


def build_bags(
    ids: Ids,
    segments: Column,
    segment_embeddings: Column,
    images: Floats,
    texts: Floats,
    rules: BagRules,
) -> Bags:
    """Bags of these images.

    segments: the column of a segment stage; segment_embeddings: of `clip_segments`;
    images (n, E), texts (K, E): CLIP embeddings. A segment that a detector found has the concept that was
    asked for, and the detector's score. Any other has the arg max over the image's `k_top` concepts of the
    cosine, and that cosine as its score (step 2 of docs/methods/seg_mil.md, "Which segments are in a bag").
    """
    table = segments.read(ids, ["height", "width", "counts", "area"])
    sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
    areas, counts = ragged(table["area"])
    if "concept" in segments.fields:
        asked = segments.read(ids, ["concept", "score", "rank"])
        concepts, scores, ranks = (ragged(asked[name])[0] for name in ("concept", "score", "rank"))
        considered = detected(np.repeat(np.arange(len(ids)), counts), concepts, scores, ranks, rules.boxes)
    else:
        vectors = ragged_vectors(segment_embeddings.read(ids, ["embedding"])["embedding"])[0]
        allowed = top_concepts(images @ texts.T, rules.k_top)
        concepts, scores = score_segments(vectors @ texts.T, np.repeat(allowed, counts, axis=0))
        considered = np.ones(len(scores), bool)
    bags = _empty(ids, rules.bag_size)
    mixtures: list[Mixture] = []
    runs = table["counts"].to_pylist()
    ends = np.cumsum(counts)
    for row, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        height, width = (int(side) for side in sizes[row])
        of_row = slice(start, end)
        fits = considered[of_row] & right_size(areas[of_row], height, width, rules)
        groups = select(scores[of_row], fits, _overlap(runs[row], height, width), rules)
        kept = [group[0] for group in groups]
        _fill(bags, row, kept, concepts[of_row], scores[of_row], areas[of_row] / (height * width))
        if rules.merge == "mean":
            mixtures += _mixtures(row, groups, areas[of_row])
    return replace(bags, mixtures=tuple(mixtures))


def top_concepts(similarities: Floats, k_top: int) -> NDArray[np.int64]:
    """Indices of the `k_top` largest of each row (n, K): (n, min(k_top, K)); ties by index."""
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k_top]


def score_segments(similarities: Floats, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Best allowed concept of each segment and its similarity: (m,), (m,) of similarities (m, K)."""
    among = np.take_along_axis(similarities, allowed, axis=1)
    best = among.argmax(axis=1, keepdims=True)
    concepts = np.take_along_axis(allowed, best, axis=1)[:, 0]
    return concepts, np.take_along_axis(among, best, axis=1)[:, 0]


def detected(
    images: NDArray[np.int64],
    concepts: NDArray[np.int64],
    scores: Floats,
    ranks: NDArray[np.int64],
    rules: BoxRules | None,
) -> NDArray[np.bool_]:
    """Which of the segments that a detector found count, all if there are no rules: bool (m,), as the other
    arrays. images: the image of each segment; ranks: its concept's place among the image's."""
    if rules is None:
        return np.ones(len(scores), bool)
    counts = (ranks < rules.k_top) & (scores >= rules.threshold)
    rows = np.flatnonzero(counts)
    order = rows[np.lexsort((-scores[rows], concepts[rows], images[rows]))]
    pairs = np.stack([images[order], concepts[order]])
    starts = np.flatnonzero(np.append(True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0))[: len(order)])
    places = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    counts[order[places >= rules.per_concept]] = False
    return counts


def select(
    scores: Floats, fits: NDArray[np.bool_], overlap: Callable[[], NDArray[np.float64]], rules: BagRules
) -> list[list[int]]:
    """Positions of the segments that stay, of those that fit, best score first, each followed by those that
    it stands for (more than `tau_iou` overlap with it); `overlap()`: IoU (S, S)."""
    order = [int(i) for i in np.argsort(-scores, kind="stable") if fits[i]]
    if not order:
        return []
    iou = overlap()
    groups: list[list[int]] = []
    for candidate in order:
        stands_in = next((group for group in groups if iou[candidate, group[0]] > rules.tau_iou), None)
        if stands_in is not None:
            stands_in.append(candidate)
        elif len(groups) < rules.bag_size:
            groups.append([candidate])
    return groups


def right_size(areas: NDArray[np.int64], height: int, width: int, rules: BagRules) -> NDArray[np.bool_]:
    """Which areas, in pixels, are at least one and `tau_min_pixels`, and at most `rho_max` of the image."""
    least = masks.in_image_pixels(rules.tau_min_pixels, height, width, rules.pixel_frame)
    return (areas >= max(least, 1)) & (areas / (height * width) <= rules.rho_max)


def _mixtures(row: int, groups: list[list[int]], areas: NDArray[np.int64]) -> list[Mixture]:
    return [
        Mixture(row, place, np.array(group), (areas[group] / areas[group].sum()).astype(np.float32))
        for place, group in enumerate(groups)
        if len(group) > 1
    ]


def _overlap(runs: list[bytes], height: int, width: int) -> Callable[[], NDArray[np.float64]]:
    return lambda: masks.iou(runs, height, width)


def _empty(ids: Ids, bag_size: int) -> Bags:
    shape = (len(ids), bag_size)
    return Bags(
        ids,
        np.full(shape, WHOLE_IMAGE, np.int64),
        np.full(shape, WHOLE_IMAGE, np.int64),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
    )


def _fill(
    bags: Bags,
    row: int,
    kept: list[int],
    concepts: NDArray[np.int64],
    scores: Floats,
    shares: NDArray[np.float64],
) -> None:
    if not kept:
        bags.areas[row, 0] = 1
        bags.valid[row, 0] = True
        return
    filled = slice(0, len(kept))
    bags.segments[row, filled] = kept
    bags.concepts[row, filled] = concepts[kept]
    bags.scores[row, filled] = scores[kept]
    bags.areas[row, filled] = shares[kept]
    bags.valid[row, filled] = True
