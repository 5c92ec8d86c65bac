"""Explanations of two methods, image by image."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from analysis.cli import app
from analysis.compare import Wanted
from analysis.images.agreement import agreement, agreements, mean_interval
from grid.results.store import ResultsStore, TrialEntry

IDS = np.arange(60) * 3 + 1
STREAM = np.random.default_rng(4)
BASE = STREAM.random(60)
GAIN = STREAM.normal(0.1, 0.05, 60)
TOPS = STREAM.integers(0, 5, 60)


def enter(
    store: ResultsStore, folder: Path, name: str, tensors: dict[str, np.ndarray], warns=(), **changes
) -> None:
    trial = {"method": name, "method_version": 1, "dataset": "toybirds", "data_fingerprint": "f", "seed": 0}
    trial |= {"id": name, "config": {"k": 1}, "stages": {"segments": "superpixels"}, **changes}
    entry = TrialEntry(**trial)
    launch = store.begin_launch("explained", spec="", plan={}, command="run", git_commit="a")
    store.enter("explained", [entry])
    place = folder / entry.id
    place.mkdir()
    if tensors:
        (place / "fitted.safetensors").write_bytes(safetensors.numpy.save(tensors))
    done = {
        "attempt": store.claim(entry.id, launch), "metrics": [], "n_failed": 0, "seconds": 1.0,
        "provenance": {}, "on_failed": "wrong", "uri": place.as_uri(), "warnings": warns,
    }  # fmt: skip
    assert store.finish(entry.id, done)


@pytest.fixture
def store(tmp_path):
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    enter(opened, tmp_path, "lime", {"image_ids": IDS, "top_mask": TOPS, "score": BASE})
    changed = np.where(np.arange(60) < 15, TOPS + 1, TOPS)
    scores = np.where(np.arange(60) == 7, np.nan, BASE + GAIN)
    other = {"image_ids": IDS[5:], "top_mask": changed[5:], "score": scores[5:]}
    enter(opened, tmp_path, "eac", other)
    enter(opened, tmp_path, "gradcam", other, stages={"segments": "a grid"})
    enter(opened, tmp_path, "standard", {})
    yield opened
    opened.close()


def test_the_share_of_equal_choices_among_images_with_masks():
    assert agreement(np.array([1, 2, -1, 4]), np.array([1, 3, -1, -1])) == 0.5
    assert math.isnan(agreement(np.array([-1]), np.array([-1])))
    assert math.isnan(agreement(np.zeros(0, np.int64), np.zeros(0, np.int64)))


def test_the_interval_is_that_of_the_normal_law_for_many_images():
    values = np.random.default_rng(0).normal(2, 3, 4000)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert mean_interval(values) == (low, high), "the same every time"
    assert all(math.isnan(edge) for edge in mean_interval(values[:1]))


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    stream = np.random.default_rng(1)
    edges = [mean_interval(stream.exponential(1, 80)) for _ in range(60)]
    covered = sum(low <= 1 <= high for low, high in edges)
    assert 49 <= covered <= 60, "95 % of 60, less what a skewed law costs the percentiles"


def test_trials_are_paired_by_image(store):
    (row,) = agreements(store, Wanted("explained", "score"), "lime", "eac").to_dict("records")
    assert (row["n"], row["agreement"]) == (55, 45 / 55)
    scored = np.setdiff1d(np.arange(5, 60), [7])
    assert row["difference"] == pytest.approx(GAIN[scored].mean())
    assert row["mean_a"] == pytest.approx(BASE[scored].mean())
    unpaired = 1.96 * math.sqrt(BASE[scored].var() + (BASE + GAIN)[scored].var()) / math.sqrt(len(scored))
    assert 0 < row["ci_high"] - row["ci_low"] < unpaired / 2, "images that are hard for both cancel out"
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_other_masks_cannot_be_the_same(store):
    (row,) = agreements(store, Wanted("explained", "score"), "lime", "gradcam").to_dict("records")
    assert math.isnan(row["agreement"])
    assert row["difference"] > 0


def test_a_warning_of_either_trial_is_told(store, tmp_path):
    kept = {"image_ids": IDS, "top_mask": TOPS, "score": BASE}
    enter(store, tmp_path, "lrp", kept, warns=["no segments in 40% of the images"])
    for names, warning in (
        (("lime", "lrp"), "no segments in 40% of the images"),
        (("lrp", "lime"), "no segments in 40% of the images"),
        (("lime", "eac"), None),
    ):
        (row,) = agreements(store, Wanted("explained", "score"), *names).to_dict("records")
        assert row["warning"] == warning, names


def test_what_cannot_be_compared_is_said(store, tmp_path):
    for names, reason in (
        (("lime", "nobody"), "has trials of both 'lime' and 'nobody'"),
        (("lime", "standard"), "standard kept no image_ids"),
    ):
        with pytest.raises(LookupError, match=reason):
            agreements(store, Wanted("explained", "score"), *names)
    with pytest.raises(LookupError, match="kept no other"):
        agreements(store, Wanted("explained", "other"), "lime", "eac")
    enter(store, tmp_path, "lime", {}, id="lime-2", config={"k": 2})
    with pytest.raises(LookupError, match="'lime' has several configurations"):
        agreements(store, Wanted("explained", "score"), "lime", "eac")


def test_the_command_prints_the_table_for_people_and_programs(store, tmp_path):
    arguments = ["agreement", "explained", "lime", "eac", "--metric", "score"]
    results = ["--results", f"sqlite:///{tmp_path}/results.db"]
    (row,) = json.loads(CliRunner().invoke(app, [*arguments, "--json", *results]).stdout)
    assert (row["n"], row["agreement"]) == (55, 45 / 55)
    shown = CliRunner().invoke(app, [*arguments, *results]).stdout
    assert "0.818" in shown
    assert f"{row['difference']:+.3f}" in shown
    refused = CliRunner().invoke(app, ["agreement", "explained", "lime", "nobody", *results])
    assert refused.exit_code == 2


def test_scores_of_images_that_were_cut_short_are_named(store, tmp_path):
    file = tmp_path / "eac" / "fitted.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    arguments = ["agreement", "explained", "lime", "eac", "--results", f"sqlite:///{tmp_path}/results.db"]
    done = CliRunner().invoke(app, [*arguments, "--metric", "score"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "trial eac: fitted.safetensors cannot be read" in line
    assert "python -m grid rerun eac" in line
