"""The accuracies that every classifying method reports, from its predictions on a split."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from inspect import isfunction, signature
from pkgutil import iter_modules
from typing import get_type_hints

import numpy as np
from numpy.typing import NDArray

from components import metrics
from components.data.columns import Data, Ids
from components.method import LAST, Metric

FAILED = -1  # prediction of an image that some stage could not process: always wrong


@cache
def metrics_of_predictions() -> dict[str, Callable[..., float | dict[int, float]]]:
    """The public functions of `components/metrics/` whose first argument is `predictions`, by name. Their
    other arguments are among `labels`, `groups` and `train_groups`; the value is a number, or one for each
    group."""
    found = {}
    for file in iter_modules(metrics.__path__, f"{metrics.__name__}."):
        for name, function in vars(import_module(file.name)).items():
            own = isfunction(function) and function.__module__ == file.name and not name.startswith("_")
            if own and next(iter(signature(function).parameters), None) == "predictions":
                found[name] = function
    return found


@cache
def accuracy_names() -> frozenset[str]:
    """Names of the metrics of predictions that are one number, of the group `all`."""
    functions = metrics_of_predictions().items()
    return frozenset(name for name, function in functions if get_type_hints(function)["return"] is float)


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
    """Every metric of predictions, under its function's name, of predictions int64 (n,) in split order."""
    part = data.split(split)
    known = {"labels": part.labels, "groups": part.groups, "train_groups": data.split("train").groups}
    found = []
    for name, function in metrics_of_predictions().items():
        arguments = {key: known[key] for key in list(signature(function).parameters)[1:]}
        value = function(predictions, **arguments)
        if isinstance(value, dict):
            of_group = {data.index.group_names[group]: number for group, number in value.items()}
        else:
            of_group = {"all": value}
        found += [Metric(name, number, split, group, selection) for group, number in of_group.items()]
    return found
