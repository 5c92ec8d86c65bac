"""LF-CBM's edit of the final layer, by which one image becomes right
(docs/methods/concept_bottlenecks.md, eq. 29).

L classes, M concepts (standardised), n images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.studies.concept_bottleneck.maps.concept_maps import Floats

MARGIN = 0.2
LEAST = 1e-6  # of a concept's activation, below which no weight of it changes a logit


@dataclass(frozen=True)
class WeightEdit:
    """weight (L, M) as edited: `concept` weighs delta more for class `label`, delta less for `predicted`."""

    weight: Floats
    concept: int
    label: int
    predicted: int
    delta: float


def edit_weight(
    weight: Floats, bias: Floats, concepts: Floats, label: int, concept: int, margin: float = MARGIN
) -> WeightEdit:
    """The edit after which the image with these concepts (M,) has a logit for class `label` that is `margin`
    above that of the class which was predicted.

    Raises ValueError if `label` is predicted already, or the concept is 0 in the image.
    """
    logits = concepts @ weight.T + bias
    predicted = int(logits.argmax())
    if predicted == label:
        raise ValueError("the image is classified rightly: there is nothing to edit")
    if abs(concepts[concept]) < LEAST:
        raise ValueError("the concept is at its average in this image: no weight of it changes a logit")
    delta = float((logits[predicted] - logits[label] + margin) / (2 * concepts[concept]))
    edited = weight.copy()
    edited[label, concept] += delta
    edited[predicted, concept] -= delta
    return WeightEdit(edited, concept, label, predicted, delta)


def corrected_and_broken(
    before: NDArray[np.int64], after: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[int, int]:
    """How many of n images became right, and how many wrong, by predictions before and after, (n,) each."""
    was, became = before == labels, after == labels
    return int((became & ~was).sum()), int((was & ~became).sum())
