"""Where the segments of bags lie on the object, on data sets with masks of it. n images, N bag size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Column, Data
from components.pixels import masks
from components.pixels.bags import WHOLE_IMAGE, Bags

Floats = NDArray[np.floating]
Size = tuple[int, int]
OBJECT_MASKS = "object_masks"  # the method's name for the stage whose first segment is the object
MOSTLY = 0.5  # share of a segment's pixels from which it counts as the object's
COVERED = 0.5  # share of the object below which a bag has missed it
MISSED, ELSEWHERE, CONCEPTS, UNKNOWN = "missed", "elsewhere", "concepts", ""
IMAGES_AT_ONCE = 512
OF_BAGS = frozenset(  # names of diagnostics, see `diagnostics`: on every data set, with masks of objects, …
    ("concept_cosine", "concept_cosine_above_constant", "attention_entropy", "attention_concentrated",
     "segments_per_bag", "whole_image_fallback", "whole_image_fallback_too_often")
)  # fmt: skip
OF_OBJECTS = frozenset(
    ("object_mask", "attention_on_object", "attention_on_object_by_area", "attention_on_object_excess",
     "object_covered", "object_best_iou", "failures_missed", "failures_elsewhere", "failures_concepts")
)  # fmt: skip
OF_CONCEPTS = ("concept_auc", "concept_auc_clip")  # of the head's concepts, and of CLIP's cosines


@dataclass(frozen=True)
class ObjectOverlap:
    """known bool (n,): images with an object; on_object float64 (n, N): share of a segment's pixels that lie
    on it, 0 where invalid; covered (n,): share of the object in the union of the segments that lie at least
    by MOSTLY on it; best_iou (n,): of a single segment with the object. All 0 where not known."""

    known: NDArray[np.bool_]
    on_object: NDArray[np.float64]
    covered: NDArray[np.float64]
    best_iou: NDArray[np.float64]

    def attended(self, attention: Floats) -> NDArray[np.float64]:
        """Share of the attention (n, N), rows summing to 1, that lies on the object: (n,)."""
        return (attention * self.on_object).sum(axis=1)

    def expected(self, areas: Floats) -> NDArray[np.float64]:
        """The same of an attention in proportion to the segments' areas (n, N), 0 where invalid
        (docs/methods/seg_mil.md, eq. 20)."""
        return self.attended(areas / areas.sum(axis=1, keepdims=True))

    def reasons(self, attention: Floats, areas: Floats) -> list[str]:
        """Why a wrong prediction is wrong, for each image: MISSED, the bag has less than COVERED of the
        object; ELSEWHERE, it has it, and attention lies on it less than in proportion to areas; CONCEPTS,
        attention was on the object and the concepts spoke for another class; UNKNOWN without a mask."""
        elsewhere = self.attended(attention) < self.expected(areas)
        cases = [~self.known, self.covered < COVERED, elsewhere]
        return [str(reason) for reason in np.select(cases, [UNKNOWN, MISSED, ELSEWHERE], CONCEPTS)]


def object_overlap(data: Data, bags: Bags) -> ObjectOverlap:
    """From the columns `segments` and, if there is one, OBJECT_MASKS. An image that is not in it, or has no
    segment there or an empty one, is not known. A second segment there are pixels that count nowhere."""
    n = len(bags.ids)
    found = ObjectOverlap(np.zeros(n, bool), np.zeros(bags.valid.shape), np.zeros(n), np.zeros(n))
    objects = _column(data)
    if objects is None:
        return found
    rows = np.flatnonzero(np.isin(bags.ids, objects.ids))
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        block = rows[start : start + IMAGES_AT_ONCE]
        truths = objects.read(bags.ids[block], ["counts"])["counts"].to_pylist()
        table = data["segments"].read(bags.ids[block], ["height", "width", "counts"])
        for row, truth, stored in zip(block, truths, table.to_pylist(), strict=True):
            size = stored["height"], stored["width"]
            if truth and masks.areas(truth[:1], *size)[0] > 0:
                chosen = bags.segments[row, bags.valid[row]]
                runs = [_whole(size) if i == WHOLE_IMAGE else stored["counts"][i] for i in chosen]
                if len(truth) > 1:
                    runs = [masks.without(run, truth[1], *size) for run in runs]
                shared, found.best_iou[row], found.covered[row] = _compared(truth[0], runs, size)
                found.on_object[row, bags.valid[row]] = shared
                found.known[row] = True
    return found


def _column(data: Data) -> Column | None:
    try:
        return data[OBJECT_MASKS]
    except KeyError:
        return None


def _whole(size: Size) -> bytes:
    return masks.encode(np.ones((1, *size), dtype=bool))[0]


def _compared(truth: bytes, runs: list[bytes], size: Size) -> tuple[NDArray[np.float64], float, float]:
    """Share of each segment on the object, the best IoU, and the share of the object that is covered."""
    area, areas = masks.areas([truth], *size)[0], masks.areas(runs, *size)
    iou = masks.iou_with(truth, runs, *size)
    on_object = _intersections(iou, area, areas) / np.maximum(areas, 1)
    pieces = [run for run, share in zip(runs, on_object, strict=True) if share >= MOSTLY]
    if not pieces:
        return on_object, float(iou.max()), 0.0
    union = [masks.union(pieces, *size)]
    shared = _intersections(masks.iou_with(truth, union, *size), area, masks.areas(union, *size))
    return on_object, float(iou.max()), float(shared[0] / area)


def _intersections(iou: Floats, area: np.int64, areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels that one mask shares with others: from their IoU, i / (a + b - i)."""
    return np.rint(iou * (area + areas) / (1 + iou))
