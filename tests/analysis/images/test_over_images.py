"""Intervals over the images of trials that kept a score of each."""

import json
from contextlib import closing

import numpy as np
import pytest
import safetensors.numpy
from scipy.stats import sem
from typer.testing import CliRunner

from analysis.cli import app
from grid.results.store import ResultsStore, TrialEntry

IDS = np.arange(200) * 2
SCORES = {seed: np.random.default_rng(seed).normal(0.5, 0.1, 200) for seed in (0, 1)}


def metric(name, value):
    return {"name": name, "value": float(value), "split": "test", "group_name": "all", "selection": "last"}


@pytest.fixture
def results(tmp_path):
    url = f"sqlite:///{tmp_path}/results.db"
    with closing(ResultsStore.open(url)) as store:
        launch = store.begin_launch("explained", spec="", plan={}, command="run", git_commit="a")
        for seed, values in SCORES.items():
            trial = {"id": f"t{seed}", "method": "lime", "method_version": 1, "dataset": "toybirds"}
            trial |= {"data_fingerprint": "f", "seed": seed, "config": {"k": 1}, "stages": {"segments": "s"}}
            store.enter("explained", [TrialEntry(**trial)])
            (tmp_path / f"t{seed}").mkdir()
            values = np.where(IDS == 14, np.nan, values)  # an image without masks
            tensors = {"image_ids": IDS, "top_mask": np.zeros(200, np.int64), "auc": values}
            (tmp_path / f"t{seed}" / "fitted.safetensors").write_bytes(safetensors.numpy.save(tensors))
            done = {
                "attempt": store.claim(f"t{seed}", launch), "n_failed": 0, "seconds": 1.0, "provenance": {},
                "metrics": [metric("auc", np.nanmean(values)), metric("other", 1.0)], "on_failed": "wrong",
                "uri": (tmp_path / f"t{seed}").as_uri(),
            }  # fmt: skip
            assert store.finish(f"t{seed}", done)
    return ["--results", url]


def test_images_are_resampled_each_with_its_mean_over_seeds(results):
    arguments = ["scores", "explained", "--metric", "auc", "--over-images", "--json"]
    (row,) = json.loads(CliRunner().invoke(app, [*arguments, *results]).stdout)
    means = np.mean(list(SCORES.values()), 0)[IDS != 14]
    half = 1.96 * sem(means)
    assert row["n"] == 199
    assert row["mean"] == pytest.approx(means.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (means.mean() - half, means.mean() + half), abs=half / 8
    )


def test_a_score_that_is_not_of_images_is_refused(results):
    refused = CliRunner().invoke(app, ["scores", "explained", "--metric", "other", "--over-images", *results])
    assert refused.exit_code == 2
    assert "kept no other of each image" in refused.stderr
