"""Intervals over seeds: against SciPy, and how often they hold the truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import ttest_1samp

from analysis.intervals import interval_of_difference, interval_of_mean, t_interval
from tests.grid.results.fraction_interval import fraction_interval

DRAWS = 2000
ACCURACIES = st.lists(st.floats(0.001, 0.999), min_size=2, max_size=12, unique=True)


@pytest.mark.parametrize("values", [(0.1, 0.5), (0.3, 0.1, 0.25), (0.2, 0.9, 0.4, 0.6, 0.7, 0.1, 0.2)])
def test_the_interval_is_that_of_students_test(values: tuple[float, ...]) -> None:
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(pd.Series(values)) == pytest.approx((expected.low, expected.high))
    assert interval_of_mean(pd.Series(values), "seconds") == pytest.approx((expected.low, expected.high))
    assert interval_of_difference(pd.Series(values), "seconds") == t_interval(pd.Series(values))


def test_one_value_has_no_interval() -> None:
    for found in (t_interval, lambda one: interval_of_mean(one, "accuracy")):
        assert found(pd.Series([0.5])) == (None, None)
    assert interval_of_difference(pd.Series([0.5]), "average_accuracy") == (None, None)


@given(ACCURACIES, st.sampled_from(["group_accuracy", "mean_iou", "mean_average_precision", "mean_f1"]))
def test_a_fractions_interval_is_students_on_log_odds(values: list[float], metric: str) -> None:
    assert interval_of_mean(pd.Series(values), metric) == pytest.approx(fraction_interval(values), abs=1e-12)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=2, max_size=8))
def test_a_fractions_interval_holds_its_mean_and_stays_between_0_and_1(values: list[float]) -> None:
    low, high = interval_of_mean(pd.Series(values), "accuracy")
    assert low is not None
    assert high is not None
    assert -1e-9 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1 + 1e-9


def test_what_is_called_an_accuracy_and_is_none_has_students_interval() -> None:
    values = pd.Series([-200.0, 300.0, 1.0])
    assert interval_of_mean(values, "accuracy") == t_interval(values)


def test_differences_of_fractions_end_at_one() -> None:
    assert interval_of_difference(pd.Series([0.2, 0.9]), "average_accuracy") == (-1.0, 1.0)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5, 0.9, 0.98])
def test_95_of_100_intervals_hold_the_truth(mean: float, n: int) -> None:
    """Seeds scatter with a deviation of 0.5 on log odds (0.12 around 0.5, 0.01 around 0.98), and each is
    counted on 500 images. The truth is the mean of all seeds that could be drawn."""
    stream = np.random.default_rng([n, int(100 * mean)])
    centre = logit(mean)
    truth = expit(stream.normal(centre, 0.5, 400_000)).mean()
    drawn = stream.binomial(500, expit(stream.normal(centre, 0.5, (DRAWS, n)))) / 500
    ends = np.array([interval_of_mean(pd.Series(values), "accuracy") for values in drawn], float)
    covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert 0.93 <= covered <= 0.97
