"""What the small SAM finds, measured against the truth through the components that experiments use.

H W: pixels of an image. Kinds are those of `prompts.KINDS`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.generators.toybirds import PARTS
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.segmenter import Found
from components.models.segmentation.segmenters.sam_automatic import SamAutomatic
from components.pixels import masks
from components.stage import ImageRecord
from components.toybirds.birds import Birds, tight_box
from components.toybirds.sam.prompts import KINDS, Mask, true_masks

# of automatic masks: a point every 4 pixels; 20 pixels are never as sure as an object of a photograph
POINTS_PER_SIDE, LEAST_IOU, LEAST_STABILITY = 16, 0.4, 0.3

ByKind = dict[str, NDArray[np.float64]]  # one number per image that shows the kind


def scores(checkpoint: Path, birds: Birds, n_automatic: int) -> dict[str, object]:
    """What scores.json records: answers to every true box, and automatic masks of the first `n_automatic`."""
    answers = answers_to_boxes(checkpoint, birds)
    predicted, true = answers.pooled()
    best, masks_per_image = best_automatic(checkpoint, birds.select(np.arange(n_automatic)))
    return {
        "boxes": {
            "n": len(birds),
            "iou": means(answers.iou),
            "calibration_error": calibration_error(predicted, true),
            "correlation_with_predicted_iou": float(np.corrcoef(predicted, true)[0, 1]),
        },
        "automatic": {
            "n": n_automatic,
            "points_per_side": POINTS_PER_SIDE,
            "pred_iou_thresh": LEAST_IOU,
            "stability_score_thresh": LEAST_STABILITY,
            "best_iou": best,
            "masks_per_image": masks_per_image,
        },
    }


@dataclass(frozen=True)
class BoxAnswers:
    """Of each kind, one number per image that shows it: IoU of the answer to its tight box with its true
    mask, and the IoU that the model itself predicts."""

    iou: ByKind
    predicted: ByKind

    def pooled(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predicted and true IoU of all answers."""
        kinds = list(self.iou)
        return np.concatenate([self.predicted[k] for k in kinds]), np.concatenate(
            [self.iou[k] for k in kinds]
        )


def answers_to_boxes(checkpoint: Path, birds: Birds) -> BoxAnswers:
    """Every true box of every image, given to `Sam`."""
    segment = Sam(checkpoint=str(checkpoint)).load("cpu")
    iou: dict[str, list[float]] = {kind: [] for kind in KINDS}
    predicted: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for image, parts in zip(birds.images, birds.parts, strict=True):
        true = true_masks(parts)
        found = segment(image, np.stack([tight_box(mask) for mask in true.values()]))
        assert found.predicted_iou is not None
        for (kind, mask), answer, score in zip(
            true.items(), _decoded(found, parts), found.predicted_iou, strict=True
        ):
            iou[kind].append(_iou(answer, mask))
            predicted[kind].append(float(score))
    return BoxAnswers(_arrays(iou), _arrays(predicted))


def best_automatic(checkpoint: Path, birds: Birds) -> tuple[dict[str, float], float]:
    """Means of the best IoU of any automatic mask with the true one, 0 where there is none; and how many
    masks an image has."""
    segment = SamAutomatic(
        checkpoint=str(checkpoint),
        points_per_side=POINTS_PER_SIDE,
        pred_iou_thresh=LEAST_IOU,
        stability_score_thresh=LEAST_STABILITY,
    ).load("cpu")
    best: dict[str, list[float]] = {kind: [] for kind in KINDS}
    numbers = []
    for image, parts in zip(birds.images, birds.parts, strict=True):
        found = segment(image, ImageRecord(0, Path("none")))
        numbers.append(len(found.counts))
        answers = _decoded(found, parts)
        for kind, mask in true_masks(parts).items():
            best[kind].append(max((_iou(answer, mask) for answer in answers), default=0.0))
    return means(_arrays(best)), float(np.mean(numbers))


def means(iou: ByKind) -> dict[str, float]:
    """Mean IoU of each kind, and of the parts, each part counting alike."""
    by_kind = {kind: float(values.mean()) for kind, values in iou.items()}
    return by_kind | {"parts": float(np.mean([by_kind[part] for part in PARTS if part in by_kind]))}


def calibration_error(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Mean distance of predicted from true IoU, (N,) each, over tenths of the answers by predicted IoU."""
    tenths = np.array_split(predicted.argsort(), 10)
    return float(np.mean([abs(predicted[rows].mean() - true[rows].mean()) for rows in tenths]))


def _arrays(values: dict[str, list[float]]) -> ByKind:
    """Without the kinds that no image shows."""
    return {kind: np.array(of_kind) for kind, of_kind in values.items() if of_kind}


def _decoded(found: Found, parts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return masks.decode(found.counts, *parts.shape)


def _iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))
