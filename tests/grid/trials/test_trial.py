"""What a trial's report says of its numbers, of a method that does nothing but report them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.card import load_card
from components.data.images import ImageIndex
from components.method import Fitted, Method, Metric
from components.stage import fixed_size_lists
from grid.inputs.datasets import Dataset
from grid.stores.artifacts import ArtifactStore
from grid.stores.evidence import PREDICTIONS, SUMS, LeftEvidence
from grid.trials.trial import TrialTask, run_trial

SPLITS = ["train", "train", "val", "val", "test", "test", "test", "test"]
BROKEN = [0, 3, 5, 6]  # two of them of the test split


class Reporting(Method):
    """Its column is called `clip`."""

    def fit(self, data, seed, report):
        report(0, train_loss=2.0, val_average_accuracy=0.5, loss=3.0)
        report(1, val_average_accuracy=float("nan"))
        return Fitted()

    def evaluate(self, fitted, data):
        return [Metric("average_accuracy", 0.25, "test")]

    def predict(self, fitted, data, ids, selection="last"):
        return data["clip"].array("embedding", ids)

    def contributions(self, fitted, data, ids):
        return [[(f"it is {i}", 0.5), ("as ever", -0.25)] for i in ids]


@pytest.fixture
def report(tmp_path):
    n = len(SPLITS)
    store = ArtifactStore(str(tmp_path / "store"))
    errors = pa.array(["OSError: broken" if i in BROKEN else None for i in range(n)], pa.string())
    logits = fixed_size_lists(np.eye(2, dtype=np.float32)[np.arange(n) % 2])
    store.write_part("key", pa.table({"image_id": np.arange(n), "embedding": logits, "error": errors}))
    failures = {str(i): "OSError: broken" for i in BROKEN}
    store.publish("key", {"sort": "column", "images": n, "failed": len(BROKEN), "failures": failures})
    zeros, paths = np.zeros(n, np.int64), np.array([f"{i}.png" for i in range(n)], object)
    index = ImageIndex(
        Path("/none"), np.arange(n), paths, zeros, zeros, np.array(SPLITS, object), ("a", "b"), ("a", "b")
    )
    dataset = Dataset(load_card("toybirds"), Path("/none"), index, "f")
    task = TrialTask("t", 1, Reporting(), "f", 0, {"clip": "key"}, {}, "wrong")
    return run_trial(task, dataset, store)


def test_a_report_on_the_way_is_of_the_split_that_its_name_begins_with(report):
    said = [(m["name"], m["split"], m["step"], m["value"]) for m in report["metrics"]]
    assert said == [
        ("average_accuracy", "test", None, 0.25),
        ("loss", "train", 0, 2.0),
        ("average_accuracy", "val", 0, 0.5),
        ("loss", "train", 0, 3.0),
        ("average_accuracy", "val", 1, "nan"),
    ]


def test_images_of_the_test_split_that_failed_are_counted(report):
    assert report["n_failed"] == 2


def test_what_was_predicted_and_why_is_kept_of_each_image_of_the_test_split(report):
    """By what was planted: image i is of class 0 and predicted as i mod 2, and 5 and 6 failed."""
    rows = LeftEvidence("t", report["uri"]).predictions().to_pylist()
    assert PREDICTIONS in report[SUMS]
    assert [row["image_id"] for row in rows] == [4, 5, 6, 7]
    assert [row["predicted"] for row in rows] == [0, -1, -1, 1]
    assert [row["predicted_name"] for row in rows] == ["landbird", None, None, "waterbird"]
    assert {(row["label"], row["label_name"], row["group"], row["group_name"]) for row in rows} == {
        (0, "landbird", 0, "a")
    }
    assert [row["path"] for row in rows] == ["4.png", "5.png", "6.png", "7.png"]
    assert rows[0]["evidence"] == [
        {"what": "it is 4", "contribution": 0.5},
        {"what": "as ever", "contribution": -0.25},
    ]
    assert rows[1]["evidence"] == rows[2]["evidence"] == []
    assert rows[3]["evidence"][0]["what"] == "it is 7"
