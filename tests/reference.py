"""Slow, obvious versions in float64 of what `components` computes fast: written from the equations.

H W pixels, S segments, N bag size, K concepts, C classes, D features, n images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def iou(a: Array, b: Array) -> float:
    """Intersection over union of two masks (H, W), pixel by pixel."""
    both = sum(bool(p) and bool(q) for p, q in zip(a.ravel(), b.ravel(), strict=True))
    either = sum(bool(p) or bool(q) for p, q in zip(a.ravel(), b.ravel(), strict=True))
    return both / either


def box(mask: Array) -> tuple[int, int, int, int]:
    """x, y, width, height of the tight box of a mask (H, W)."""
    rows = [y for y in range(mask.shape[0]) if mask[y].any()]
    columns = [x for x in range(mask.shape[1]) if mask[:, x].any()]
    return columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1


@dataclass(frozen=True)
class Member:
    """A segment of a bag. segment and concept are -1 for the whole image."""

    segment: int
    concept: int
    score: float
    share: float


@dataclass(frozen=True)
class Detected:
    """A segment that a detector found: mask (H, W), concept, its rank in the image, the box's score."""

    mask: Array
    concept: int
    rank: int
    score: float


def detected_groups(found: Sequence[Detected], rules: Any) -> list[list[int]]:
    """The bag of one image by steps 1 and 3-5 of docs/methods/seg_mil.md, "Which segments are in a bag":
    positions that stay, each before those it stands for."""
    best_first = sorted(range(len(found)), key=lambda i: -found[i].score)
    taken: dict[int, int] = {}
    order = []
    for i in best_first:
        segment = found[i]
        if segment.rank >= rules.boxes.k_top or segment.score < rules.boxes.threshold:
            continue
        taken[segment.concept] = taken.get(segment.concept, 0) + 1
        if taken[segment.concept] <= rules.boxes.per_concept:
            order.append(i)
    groups: list[list[int]] = []
    for i in order:
        area, pixels = int(found[i].mask.sum()), found[i].mask.size
        least = rules.tau_min_pixels * (pixels / 224**2 if rules.pixel_frame == "224" else 1)
        if area == 0 or area < least - 1e-9 or area / pixels > rules.rho_max:
            continue
        over = [group for group in groups if iou(found[group[0]].mask, found[i].mask) > rules.tau_iou]
        if over:
            over[0].append(i)
        elif len(groups) < rules.bag_size:
            groups.append([i])
    return groups


def bag(masks: Array, vectors: Array, image: Array, texts: Array, rules: Any) -> list[Member]:
    """One bag by docs/methods/seg_mil.md, "Which segments are in a bag".

    Masks (S, H, W); unit vectors (S, D), (D,) and (K, D)."""
    concepts = [math.fsum(image * text) for text in texts.astype(float)]
    best_first = sorted(range(len(texts)), key=lambda k: (-concepts[k], k))[: rules.k_top]
    members = []
    for i, mask in enumerate(masks):
        cosines = {k: math.fsum(vectors[i].astype(float) * texts[k]) for k in best_first}
        concept = max(best_first, key=lambda k: cosines[k])
        members.append(Member(i, concept, cosines[concept], float(mask.sum()) / mask.size))
    side = 224.0**2 if rules.pixel_frame == "224" else float(masks[0].size if len(masks) else 1)
    members = [m for m in members if m.share * side >= rules.tau_min_pixels - 1e-9]
    members = [m for m in members if m.share <= rules.rho_max]
    kept: list[Member] = []
    for member in sorted(members, key=lambda m: -m.score):
        if all(iou(masks[member.segment], masks[other.segment]) <= rules.tau_iou for other in kept):
            kept.append(member)
    return kept[: rules.bag_size] or [Member(-1, -1, 0.0, 1.0)]


def crop(image: Array, mask: Array, margin: float) -> Array:
    """Tight box with a margin of its sides, mean colour outside the mask; not resized."""
    x, y, width, height = box(mask)
    mean = np.round(image.astype(float).mean(axis=(0, 1)))
    rows = range(y - round(margin * height), y + height + round(margin * height))
    columns = range(x - round(margin * width), x + width + round(margin * width))
    inside = [r for r in rows if 0 <= r < image.shape[0]], [c for c in columns if 0 <= c < image.shape[1]]
    return np.array([[image[r, c] if mask[r, c] else mean for c in inside[1]] for r in inside[0]])


def pooled(features: Array, mask: Array) -> Array:
    """Mean of a map (D, h, w) over a mask (H, W), each pixel taking the vector of the cell it lies in."""
    (_, h, w), (height, width) = features.shape, mask.shape
    pixels = [(y * h // height, x * w // width) for y, x in zip(*np.nonzero(mask), strict=True)]
    return np.mean([features[:, y, x].astype(float) for y, x in pixels], axis=0)


def cosine(a: Array, b: Array) -> float:
    """Of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def softmax(x: Array) -> Array:
    """Of a vector."""
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def adjusted_average(
    predictions: Sequence[int], labels: Sequence[int], groups: Sequence[int], train_groups: Sequence[int]
) -> float:
    """Sum of (share in training) x (accuracy) over the tested groups, the shares made to sum to 1."""
    total, right = 0.0, 0.0
    for group in set(groups):
        weight = sum(g == group for g in train_groups)
        members = [p == y for p, y, g in zip(predictions, labels, groups, strict=True) if g == group]
        total += weight
        right += weight * sum(members) / len(members)
    return right / total
