from types import SimpleNamespace

import numpy as np
import pytest

from components.data.columns import Data
from components.data.images import ImageIndex
from components.evaluation.accuracies import FAILED, accuracy_metrics, predictions_of
from tests import reference

STREAM = np.random.default_rng(0)
N = 60
GROUP_NAMES = ("a on x", "a on y", "b on x", "b on y")


@pytest.fixture
def data(tmp_path):
    labels, places = STREAM.integers(0, 2, N), STREAM.integers(0, 2, N)
    index = ImageIndex(
        tmp_path,
        np.arange(N),
        np.array(["a.png"] * N, object),
        labels,
        labels * 2 + places,
        np.array(["train", "val", "test"] * (N // 3), object),
        ("a", "b"),
        GROUP_NAMES,
    )
    half = SimpleNamespace(ids=np.setdiff1d(np.arange(N), [5, 8]), failures={5: "x", 8: "y"})
    return Data(None, index, {"v": half})


def test_failed_images_are_wrong_and_counted(data):
    test = data.split("test")
    perfect = predictions_of(data, test.ids, lambda ids: np.eye(2)[data.index.labels[data.rows(ids)]])
    assert set(test.ids[perfect == FAILED]) == {5, 8}
    values = {(m.name, m.group): m.value for m in accuracy_metrics(data, "test", perfect)}
    assert values["average_accuracy", "all"] == pytest.approx(18 / 20)
    for group, name in enumerate(GROUP_NAMES):
        members = test.ids[test.groups == group]
        share = 1 - np.isin(members, [5, 8]).mean()
        assert values["group_accuracy", name] == pytest.approx(share)
    assert values["worst_group_accuracy", "all"] == min(values["group_accuracy", n] for n in GROUP_NAMES)
    train = data.split("train").groups
    adjusted = reference.adjusted_average(perfect, test.labels, test.groups, train)
    assert values["adjusted_average_accuracy", "all"] == pytest.approx(adjusted)


def test_metrics_say_split_and_selection(data):
    predictions = data.split("val").labels
    metrics = accuracy_metrics(data, "val", predictions, "val_average")
    assert {(m.split, m.selection, m.value) for m in metrics} == {("val", "val_average", 1.0)}


def test_no_usable_image_asks_for_no_logits(data):
    ids = np.array([5, 8])
    assert predictions_of(data, ids, lambda ids: pytest.fail("asked")).tolist() == [FAILED, FAILED]
