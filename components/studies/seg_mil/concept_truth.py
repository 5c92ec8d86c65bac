"""Whether segments' concepts are true, on data sets that say what images show and where their parts are.

n bags, N segments, K concepts, P parts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from components.data.columns import Data
from components.data.mask_files import IGNORE
from components.data.shown_concepts import shown_concepts
from components.method import Metric
from components.pixels.bags import WHOLE_IMAGE, Bags
from components.pixels.crops import stored_masks
from components.studies.seg_mil.objects import IMAGES_AT_ONCE, MOSTLY


@dataclass(frozen=True)
class ConceptTruth:
    """shown bool (n, N, K): the segment lies at least by MOSTLY on the part that the concept names, or, where
    it names none, beside all parts, and the image shows the concept; known bool (n, N): the segment is valid,
    and its image has a mask of parts; concepts bool (K,): those of which the data set says how to tell."""

    shown: NDArray[np.bool_]
    known: NDArray[np.bool_]
    concepts: NDArray[np.bool_]


def concept_truth(data: Data, bags: Bags, vocabulary: str) -> ConceptTruth:
    """Of the valid segments of the bags."""
    card = data.card
    rows = data.rows(bags.ids)
    found = shown_concepts(card.shows, data.index.rows(rows), card.vocabulary(vocabulary), card.parts)
    shown = np.zeros((*bags.valid.shape, len(found.known)), bool)
    known = np.zeros(bags.valid.shape, bool)
    for start in range(0, len(rows) if found.known.any() else 0, IMAGES_AT_ONCE):
        block = slice(start, start + IMAGES_AT_ONCE)
        table = data["segments"].read(bags.ids[block], ["height", "width", "counts"])
        for place, row in enumerate(rows[block]):
            parts = data.part_mask(int(row))
            if parts is None:
                continue
            bag = start + place
            chosen = bags.segments[bag, bags.valid[bag]]
            masks = np.concatenate([stored_masks(table, place), np.ones((1, *parts.shape), bool)])
            mostly = _mostly_on(masks[np.where(chosen == WHOLE_IMAGE, -1, chosen)], parts, len(card.parts))
            # part p is column p + 1, and what lies beside all parts, NO_PART, column 0
            shown[bag, bags.valid[bag]] = mostly[:, found.parts + 1] & found.images[bag]
            known[bag] = bags.valid[bag]
    return ConceptTruth(shown, known, found.known)


def _mostly_on(masks: NDArray[np.bool_], parts: NDArray[np.uint8], n_parts: int) -> NDArray[np.bool_]:
    """Whether masks (S, H, W) lie at least by MOSTLY beside all parts and on each, bool (S, 1 + P); pixels to
    ignore count nowhere."""
    pixels = np.eye(n_parts + 1, dtype=np.float32)[np.where(parts == IGNORE, 0, parts).ravel()]
    pixels[(parts == IGNORE).ravel()] = 0
    counts = masks.reshape(len(masks), -1).astype(np.float32) @ pixels
    mostly: NDArray[np.bool_] = counts >= MOSTLY * np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return mostly


def concept_auc(
    name: str, scores: NDArray[np.floating], truth: ConceptTruth, concepts: tuple[str, ...], split: str
) -> list[Metric]:
    """The area under the ROC curve of each concept's scores (n, N, K) over the known segments: chance is 0.5.
    Group: the concept; `all`, their mean. None of a concept that all or no segments show."""
    known = truth.known
    by_concept = {
        concept: float(roc_auc_score(truth.shown[known, k], scores[known, k]))
        for k, concept in enumerate(concepts)
        if truth.concepts[k] and 0 < truth.shown[known, k].sum() < known.sum()
    }
    metrics = [Metric(name, value, split, concept) for concept, value in by_concept.items()]
    return [Metric(name, float(np.mean(list(by_concept.values()))), split), *metrics] if metrics else []
