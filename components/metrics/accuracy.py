"""Accuracies over groups, as the Waterbirds literature reports them (Sagawa et al. 2020, sec. 5).

A prediction of -1 (an image that failed) is wrong and stays in the denominator.
All functions take int arrays of shape (n,) and return shares in [0, 1]; NaN where n is 0.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def average_accuracy(predictions: Ints, labels: Ints) -> float:
    """Share of the images that are right."""
    return float(np.mean(predictions == labels)) if len(labels) else float("nan")


def group_accuracy(predictions: Ints, labels: Ints, groups: Ints) -> dict[int, float]:
    """Share of right images in each group that occurs."""
    return {
        int(group): average_accuracy(predictions[groups == group], labels[groups == group])
        for group in np.unique(groups)
    }


def worst_group_accuracy(predictions: Ints, labels: Ints, groups: Ints) -> float:
    """The least of the groups' accuracies."""
    return min(group_accuracy(predictions, labels, groups).values(), default=float("nan"))


def adjusted_average_accuracy(predictions: Ints, labels: Ints, groups: Ints, train_groups: Ints) -> float:
    """Mean of the groups' accuracies, weighted by the groups' shares in training.

    A group that training lacks has weight 0; NaN if no tested group occurs in training.
    """
    accuracies = group_accuracy(predictions, labels, groups)
    weights = np.array([np.sum(train_groups == group) for group in accuracies], dtype=float)
    if weights.sum() == 0:
        return float("nan")
    return float(np.average(list(accuracies.values()), weights=weights))
