"""Bags: which segments of an image a multiple-instance method sees. The one read-time filter of all.

n images, S segments of one image, N bag size, K concepts, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components import masks
from components.data import Column, Ids, ragged_vectors

Floats = NDArray[np.float32]
WHOLE_IMAGE = -1  # stands for the segment (and its concept) where no segment survived


@dataclass(frozen=True)
class BagRules:
    """The thresholds, in the order in which they act (spec of SEG-MIL-CBM, A4 steps 1 and 4-5).

    k_top: concepts an image keeps; tau_min_pixels: least area; rho_max: largest share of the image;
    tau_iou: of two masks that overlap more, the better scored stays; bag_size: best scored that stay.
    """

    k_top: int
    tau_min_pixels: float
    rho_max: float
    tau_iou: float
    bag_size: int
    pixel_frame: Literal["224", "native"]


@dataclass(frozen=True)
class Bags:
    """n bags padded to N: best score first, invalid entries at the end.

    segments int64 (n, N): position in the stage's segments, WHOLE_IMAGE for the fallback;
    concepts int64 (n, N): index in the vocabulary or WHOLE_IMAGE; scores, areas float32 (n, N): cosine,
    and share of the image; valid bool (n, N), at least one per row.
    """

    ids: Ids
    segments: NDArray[np.int64]
    concepts: NDArray[np.int64]
    scores: Floats
    areas: Floats
    valid: NDArray[np.bool_]

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

    segments: the column of stage `segments`; segment_embeddings: of `clip_segments`;
    images (n, E), texts (K, E): CLIP embeddings. A segment's concept is the arg max over the image's
    `k_top` concepts of the cosine, its score that cosine (design, section 4).
    """
    table = segments.read(ids, ["height", "width", "counts", "area"])
    vectors, counts = ragged_vectors(segment_embeddings.read(ids, ["embedding"])["embedding"])
    allowed = top_concepts(images @ texts.T, rules.k_top)
    concepts, scores = score_segments(vectors @ texts.T, np.repeat(allowed, counts, axis=0))
    runs, areas = table["counts"].to_pylist(), table["area"].to_pylist()
    sizes = np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1)
    bags = _empty(ids, rules.bag_size)
    ends = np.cumsum(counts)
    for row, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        height, width = (int(side) for side in sizes[row])
        area = np.asarray(areas[row], dtype=np.int64)
        kept = select(scores[start:end], area, height, width, _overlap(runs[row], height, width), rules)
        _fill(bags, row, kept, concepts[start:end], scores[start:end], area / (height * width))
    return bags


def top_concepts(similarities: Floats, k_top: int) -> NDArray[np.int64]:
    """Indices of the `k_top` largest of each row (n, K): (n, min(k_top, K)); ties by index."""
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k_top]


def score_segments(similarities: Floats, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Best allowed concept of each segment and its similarity: (m,), (m,) of similarities (m, K)."""
    among = np.take_along_axis(similarities, allowed, axis=1)
    best = among.argmax(axis=1, keepdims=True)
    concepts = np.take_along_axis(allowed, best, axis=1)[:, 0]
    return concepts, np.take_along_axis(among, best, axis=1)[:, 0]


def select(
    scores: Floats,
    areas: NDArray[np.int64],
    height: int,
    width: int,
    overlap: Callable[[], NDArray[np.float64]],
    rules: BagRules,
) -> list[int]:
    """Positions of the segments that stay, best score first; areas in pixels; `overlap()`: IoU (S, S)."""
    least = masks.in_image_pixels(rules.tau_min_pixels, height, width, rules.pixel_frame)
    fits = (areas >= least) & (areas / (height * width) <= rules.rho_max)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if fits[i]]
    if not order:
        return []
    iou = overlap()
    kept: list[int] = []
    for candidate in order:
        if len(kept) == rules.bag_size:
            break
        if all(iou[candidate, other] <= rules.tau_iou for other in kept):
            kept.append(candidate)
    return kept


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
