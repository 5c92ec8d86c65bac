"""What holds of every metric of predictions, whatever files there are."""

import importlib
import inspect
import math

import numpy as np
import pytest

from components.evaluation.accuracies import metrics_of_predictions
from grid.names import names

PACKAGE = "components.metrics"
STREAM = np.random.default_rng(0)
LABELS, GROUPS = STREAM.integers(0, 3, 40), STREAM.integers(0, 4, 40)
GIVEN = {"labels": LABELS, "groups": GROUPS, "train_groups": STREAM.permutation(GROUPS)}


def functions():
    for name in names(PACKAGE):
        module = importlib.import_module(f"{PACKAGE}.{name}")
        for function_name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not function_name.startswith("_"):
                yield pytest.param(function, id=f"{name}.{function_name}")


every_function = pytest.mark.parametrize("function", list(functions()))


def call(function, predictions, rows=slice(None)):
    parameters = list(inspect.signature(function).parameters)
    if parameters[0] != "predictions" or not set(parameters[1:]) <= set(GIVEN):
        pytest.skip(f"not a metric of predictions: {', '.join(parameters)}")
    value = function(predictions[rows], *(GIVEN[name][rows] for name in parameters[1:]))
    return list(value.values()) if isinstance(value, dict) else [value]


@every_function
def test_it_is_documented_and_typed(function):
    assert function.__doc__
    signature = inspect.signature(function)
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation is not signature.empty


@every_function
def test_it_goes_from_all_wrong_to_all_right_in_plain_numbers(function):
    failed = np.full(40, -1)
    half = np.where(STREAM.random(40) < 0.5, LABELS, failed)
    assert call(function, LABELS) == [1.0] * len(call(function, LABELS))
    assert set(call(function, failed)) == {0.0}
    assert all(type(value) is float and 0 <= value <= 1 for value in call(function, half))
    assert 0 < np.mean(call(function, half)) < 1


@every_function
def test_the_order_of_images_does_not_matter(function):
    half = np.where(np.arange(40) % 3 == 0, LABELS, (LABELS + 1) % 3)
    turned = np.random.default_rng(1).permutation(40)
    assert call(function, half, turned) == pytest.approx(call(function, half))


@every_function
def test_it_is_reported_under_its_name(function):
    """What has `predictions` as its first argument is a result of every method, and nothing else is."""
    first = next(iter(inspect.signature(function).parameters), None)
    assert (metrics_of_predictions().get(function.__name__) is function) == (first == "predictions")


@pytest.mark.filterwarnings("error")
@every_function
def test_no_image_gives_no_number(function):
    assert all(math.isnan(value) for value in call(function, LABELS, slice(0, 0)))
