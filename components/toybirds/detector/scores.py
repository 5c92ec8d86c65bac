"""What a detector knows about toy birds, measured against the truth through the product's own path.

N images, K concepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from components.data.drawing.backgrounds import TEXTURES
from components.models.segmentation.detector import Detect, Question
from components.toybirds.birds import Birds
from components.toybirds.detector.prompts import BIRD, true_boxes

FOUND = 0.5  # IoU from which on a box is right
BACKGROUNDS = (*TEXTURES["land"], *TEXTURES["water"], "fog")
THRESHOLD = 0.25  # the `box_threshold` that methods have by default


@dataclass(frozen=True)
class ConceptScore:
    """iou, recall: mean IoU of the best-scored box with the true one over the `n` images where there is one,
    and the share from FOUND on. auc: does the score of the best box tell the images where the concept is true
    from the others? kept_if_true, kept_if_not: the share of images in which a box is scored above THRESHOLD.
    None for a concept that is true of every image."""

    n: int
    iou: float
    recall: float
    auc: float | None
    kept_if_true: float
    kept_if_not: float | None


def scores(detect: Detect, birds: Birds, concepts: Sequence[str]) -> dict[str, ConceptScore]:
    """Of each concept. `detect` must keep boxes of any score."""
    best, boxes = best_boxes(detect, birds, concepts)
    truth = true_boxes(birds)
    measured = {}
    for k, concept in enumerate(concepts):
        true = np.array([concept == BIRD or concept in shown.values() for shown in birds.shown])
        has = [i for i in range(len(birds)) if concept in truth[i]]
        ious = np.array([iou(boxes[i, k], truth[i][concept]) for i in has])
        measured[concept] = ConceptScore(
            n=len(has),
            iou=float(ious.mean()),
            recall=float((ious >= FOUND).mean()),
            auc=None if true.all() else float(roc_auc_score(true, best[:, k])),
            kept_if_true=float((best[true, k] > THRESHOLD).mean()),
            kept_if_not=None if true.all() else float((best[~true, k] > THRESHOLD).mean()),
        )
    return measured


def best_boxes(
    detect: Detect, birds: Birds, concepts: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The best score (N, K), and its box (N, K, 4) in pixels."""
    best = np.zeros((len(birds), len(concepts)), np.float32)
    boxes = np.zeros((*best.shape, 4), np.float32)
    for i, image in enumerate(birds.images):
        (found,) = detect([Question(image, tuple(concepts))]).detections
        concept, first = np.unique(found.concepts, return_index=True)  # best first within each concept
        best[i, concept], boxes[i, concept] = found.scores[first], found.boxes[first]
    return best, boxes


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of two boxes x0 y0 x1 y1."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = sides.clip(0).prod()
    return float(both / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both, 1e-9))


def summary(measured: dict[str, ConceptScore]) -> dict[str, float]:
    """part_recall, part_iou: over all parts that are seen; bird_recall; auc: the mean over concepts that are
    not true of every image."""
    parts = [concept for concept in measured if concept not in (BIRD, *BACKGROUNDS)]
    n = np.array([measured[part].n for part in parts])
    return {
        "part_recall": float(np.average([measured[part].recall for part in parts], weights=n)),
        "part_iou": float(np.average([measured[part].iou for part in parts], weights=n)),
        "bird_recall": measured[BIRD].recall,
        "auc": float(np.mean([score.auc for score in measured.values() if score.auc is not None])),
    }
