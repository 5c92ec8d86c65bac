import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score
from torchmetrics.functional.classification import multiclass_accuracy

from components.metrics.accuracy import (
    adjusted_average_accuracy,
    average_accuracy,
    group_accuracy,
    worst_group_accuracy,
)
from tests import reference

rows = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4))
tables = st.lists(rows, min_size=1, max_size=30).map(lambda table: np.array(table).T)


@given(tables)
def test_groups_against_scikit_learn(table):
    predictions, labels, groups = table
    expected = {
        g: accuracy_score(labels[groups == g], predictions[groups == g]) for g in sorted(set(groups.tolist()))
    }
    assert group_accuracy(predictions, labels, groups) == pytest.approx(expected)
    assert average_accuracy(predictions, labels) == pytest.approx(accuracy_score(labels, predictions))
    assert worst_group_accuracy(predictions, labels, groups) == pytest.approx(min(expected.values()))


@given(tables)
def test_classes_as_groups_against_torchmetrics(table):
    predictions, labels, _ = table
    recalls = recall_score(labels, predictions, labels=np.unique(labels), average=None)
    ours = group_accuracy(predictions, labels, labels)
    np.testing.assert_allclose(list(ours.values()), recalls)
    theirs = multiclass_accuracy(torch.tensor(predictions), torch.tensor(labels), 4, average="micro")
    assert average_accuracy(predictions, labels) == pytest.approx(float(theirs))


@given(tables, st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_adjusted_average_against_brute_force(table, train):
    predictions, labels, groups = table
    adjusted = adjusted_average_accuracy(predictions, labels, groups, np.array(train))
    if set(groups.tolist()) & set(train):
        assert adjusted == pytest.approx(reference.adjusted_average(predictions, labels, groups, train))
    else:
        assert math.isnan(adjusted)


@given(tables)
def test_adjusting_by_the_tested_shares_changes_nothing(table):
    predictions, labels, groups = table
    adjusted = adjusted_average_accuracy(predictions, labels, groups, groups)
    assert adjusted == pytest.approx(average_accuracy(predictions, labels))


def test_waterbirds_by_hand():
    """Accuracies 0.9, 0.5, 0.25, 1 with the training counts of the release."""
    groups = np.repeat([0, 1, 2, 3], [10, 2, 4, 1])
    right = np.concatenate([np.arange(n) < k for n, k in ((10, 9), (2, 1), (4, 1), (1, 1))]).astype(int)
    train = np.repeat([0, 1, 2, 3], [3498, 184, 56, 1057])
    by_hand = (3498 * 0.9 + 184 * 0.5 + 56 * 0.25 + 1057 * 1) / 4795
    labels = np.ones(17, int)
    assert adjusted_average_accuracy(right, labels, groups, train) == pytest.approx(by_hand)
    assert average_accuracy(right, labels) == pytest.approx(12 / 17)
    assert worst_group_accuracy(right, labels, groups) == 0.25
