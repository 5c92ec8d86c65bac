"""The accuracies that every classifying method reports, from its predictions on a split."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.method import LAST, Metric
from components.metrics.accuracy import (
    adjusted_average_accuracy,
    average_accuracy,
    group_accuracy,
    worst_group_accuracy,
)

FAILED = -1  # prediction of an image that some stage could not process: always wrong


def predictions_of(data: Data, ids: Ids, logits: Callable[[Ids], NDArray[np.float32]]) -> Ids:
    """Predicted classes int64 (n,): the arg max of `logits(usable ids)`, FAILED for the others."""
    usable = ids[data.usable(ids)]
    return with_failures(data, ids, logits(usable).argmax(axis=1) if len(usable) else usable)


def with_failures(data: Data, ids: Ids, predicted: Ids) -> Ids:
    """Predicted classes int64 (n,): those of the usable ids, FAILED for the others."""
    predictions = np.full(len(ids), FAILED, np.int64)
    predictions[data.usable(ids)] = predicted
    return predictions


def known(logits: NDArray[np.float32]) -> Callable[[Ids], NDArray[np.float32]]:
    """Logits of all usable images of a split, as the function that `predictions_of` asks."""
    return lambda ids: logits


def accuracy_metrics(
    data: Data, split: str, predictions: NDArray[np.int64], selection: str = LAST
) -> list[Metric]:
    """Average, adjusted average, worst group and each group, of predictions int64 (n,) in split order."""
    part = data.split(split)
    train_groups = data.split("train").groups
    whole = {
        "average_accuracy": average_accuracy(predictions, part.labels),
        "adjusted_average_accuracy": adjusted_average_accuracy(
            predictions, part.labels, part.groups, train_groups
        ),
        "worst_group_accuracy": worst_group_accuracy(predictions, part.labels, part.groups),
    }
    by_group = group_accuracy(predictions, part.labels, part.groups)
    names = data.index.group_names
    return [
        *(Metric(name, value, split, selection=selection) for name, value in whole.items()),
        *(
            Metric("group_accuracy", value, split, names[group], selection)
            for group, value in by_group.items()
        ),
    ]
