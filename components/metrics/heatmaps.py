"""How well a heatmap finds an object: zero-shot segmentation, the pointing game, the share of its mass.

Sources: the evaluation on ImageNet-Segmentation of Chefer et al. (CVPR 2021), which Table 2 of SALF-CBM
follows (docs/methods/explanations.md, "ImageNet-Segmentation"); the pointing game of Zhang et al. (ECCV
2016; docs/methods/explanations.md, "Pointing game"). H W pixels, n images.
A heatmap is float (H, W), larger is more evidence. A mask is (H, W): 1 or True the object, 0 the rest, IGNORE
what counts nowhere; ValueError for other values and for shapes that differ.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from components.data.mask_files import IGNORE

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]
Mask = NDArray[np.uint8] | Booleans
POINTING_TOLERANCE = 15  # pixels, of the original pointing game


def normalised(heatmap: Floats) -> NDArray[np.float64]:
    """The heatmap from 0 to 1; one that is constant or not finite says nothing and is 0 everywhere."""
    values = heatmap.astype(np.float64)
    low, high = values.min(), values.max()
    if not (low < high and np.isfinite(high - low)):
        return np.zeros_like(values)
    return (values - low) / (high - low)


def foreground(heatmap: Floats) -> Booleans:
    """The pixels above the mean of the map, bool (H, W): none of a constant map."""
    values = normalised(heatmap)
    return values > values.mean()


def foreground_iou(heatmap: Floats, mask: Mask) -> float:
    """Overlap of the foreground with the object, in [0, 1]; 0 if there is neither."""
    labelled, objects = _labels(heatmap, mask)
    overlap, union = _overlaps(_confusion(foreground(heatmap)[labelled], objects[labelled]))
    return float(overlap[1] / max(union[1], 1))


@dataclass
class SegmentationScores:
    """Zero-shot segmentation of a set, one image after the other; one without labelled pixels is left out.

    Heatmaps and masks have one frame: 224 x 224, bilinear from the maps' cells, as the protocol has it.
    """

    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    per_image: list[dict[str, float]] = field(default_factory=list)

    def add(self, heatmap: Floats, mask: Mask) -> None:
        """Adds an image."""
        labelled, objects = _labels(heatmap, mask)
        if not labelled.any():
            return
        values = normalised(heatmap)
        # a map that says nothing has score 0 for the background too: the protocol's NaN
        background = (1 - values if values.any() else values)[labelled]
        scores, truth = values[labelled], objects[labelled]
        confusion = _confusion((values > values.mean())[labelled], truth)
        self.confusion += confusion
        self.per_image.append(
            {
                "mean_average_precision": _average_precision(
                    np.concatenate([background, scores]), np.concatenate([~truth, truth])
                ),
                "mean_foreground_precision": _average_precision(scores, truth),
                "mean_f1": _f1(confusion),
                "mean_iou_per_image": _mean_overlap(confusion),
                "mean_best_threshold_iou": _best_overlap(scores, truth),
            }
        )

    def metrics(self) -> dict[str, float]:
        """All scores, in [0, 1]; without images, none.

        By the protocol: pixel_accuracy and mean_iou (of background and object), from sums over the set;
        mean_average_precision, of both channels at once, so that chance is 0.5. Floors of mean_iou on these
        masks: mean_iou_random, of maps of which a random half is foreground (the ratio of the mean sums), and
        mean_iou_all_background, of maps without foreground.
        Beside it: mean_f1, of the object in each image (the protocol's code has the mean over rows of pixels
        of the object's F1 in the row, another number); mean_iou_per_image; mean_foreground_precision, the
        usual average precision, where chance is the object's share; mean_best_threshold_iou, of the object at
        the threshold that suits the image.
        What is not defined for an image is 0, as in the protocol.
        """
        if not self.per_image:
            return {}
        of_truth = self.confusion.sum(axis=1)  # pixels of background and object
        return {
            "pixel_accuracy": float(np.trace(self.confusion) / self.confusion.sum()),
            "mean_iou": _mean_overlap(self.confusion),
            "mean_iou_random": _mean_overlap(np.stack([of_truth, of_truth], axis=1) / 2),
            "mean_iou_all_background": _mean_overlap(np.stack([of_truth, 0 * of_truth], axis=1)),
            **{name: float(np.mean([row[name] for row in self.per_image])) for name in self.per_image[0]},
        }


def pointing_hit(heatmap: Floats, mask: Mask, tolerance: float) -> float:
    """Whether the largest labelled value lies on the object or at most `tolerance` pixels from it: 1 or 0,
    and of several equal values the share that does (the first of them would favour a corner). NaN where
    nothing is labelled, 0 where there is no object."""
    labelled, objects = _labels(heatmap, mask)
    if not labelled.any() or not objects.any():
        return 0.0 if labelled.any() else float("nan")
    values = normalised(heatmap)
    largest = labelled & (values == values[labelled].max())
    return float(np.mean(distance_transform_edt(~objects)[largest] <= tolerance))


def pointing_accuracy(hits: Floats, classes: NDArray[np.int64]) -> float:
    """Mean over the classes of the mean over their hits, both (n,); hits that are NaN are left out."""
    counted = ~np.isnan(hits)
    hits, classes = hits[counted], classes[counted]
    means = [hits[classes == one].mean() for one in np.unique(classes)]
    return float(np.mean(means)) if means else float("nan")


def relevance_mass(heatmap: Floats, mask: Mask) -> float:
    """Share of the labelled pixels' mass that lies on the object, the map scaled from 0 to 1; a constant map
    has its mass everywhere alike. NaN where nothing is labelled."""
    labelled, objects = _labels(heatmap, mask)
    if not labelled.any():
        return float("nan")
    mass = normalised(heatmap)[labelled]
    if mass.sum() == 0:
        mass = np.ones_like(mass)
    return float(mass[objects[labelled]].sum() / mass.sum())


def _labels(heatmap: Floats, mask: Mask) -> tuple[Booleans, Booleans]:
    """Which pixels are labelled, and which of them are the object."""
    if heatmap.shape != mask.shape:
        raise ValueError(f"a heatmap of {heatmap.shape} pixels and a mask of {mask.shape}")
    objects, ignored = mask == 1, mask == IGNORE
    if not (objects | ignored | (mask == 0)).all():
        raise ValueError(f"a mask has the values 0, 1 and {IGNORE}, this one {np.unique(mask)}")
    return ~ignored, objects


def _confusion(found: Booleans, truth: Booleans) -> NDArray[np.int64]:
    """Pixels by truth (rows) and by what was found (columns): (2, 2)."""
    return np.bincount(2 * truth + found, minlength=4).reshape(2, 2)


def _overlaps(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intersections and unions of background and object, (2,) each."""
    both = np.diag(confusion)
    return both, confusion.sum(0) + confusion.sum(1) - both


def _mean_overlap(confusion: NDArray[Any]) -> float:
    """Mean intersection over union of background and object, or of the one that occurs."""
    both, union = _overlaps(confusion)
    return float(np.mean(both[union > 0] / union[union > 0]))


def _f1(confusion: NDArray[np.int64]) -> float:
    """Of the object; 0 if there is neither truth nor prediction."""
    (_, false), (missed, found) = confusion
    return float(2 * found / max(2 * found + false + missed, 1))


def _average_precision(scores: NDArray[np.float64], truth: Booleans) -> float:
    from sklearn.metrics import average_precision_score

    # in float32, as the protocol: so that s and 1 - s' tie where they are equal but for rounding
    return float(average_precision_score(truth, scores.astype(np.float32))) if truth.any() else 0.0


def _best_overlap(scores: NDArray[np.float64], truth: Booleans) -> float:
    from sklearn.metrics import precision_recall_curve

    if not truth.any():
        return 0.0
    precision, recall, _ = precision_recall_curve(truth, scores)
    either = precision + recall - precision * recall  # 1 / IoU = 1 / precision + 1 / recall - 1
    return float(np.max(precision * recall / np.where(either > 0, either, 1)))
