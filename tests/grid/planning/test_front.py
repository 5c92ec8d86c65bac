"""The front of a search with several goals: in the store, in MLflow, in `pareto` and in the report."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from analysis.cli import app
from analysis.page.report import contents, write_report
from analysis.pareto import keeps, pareto
from grid.planning.front import as_csv, front
from grid.results.entry import TrialEntry
from grid.results.store import ResultsStore
from grid.spec.search import Search
from grid.tracking.mirror import Mirror

SEARCH = {
    "kind": "optuna", "trials": 40, "metric": ["average_accuracy", "worst_group_accuracy", "held_out_loss"],
    "mode": ["max", "max", "min"], "where": {"gap": "<= 0.5"}, "sampler": "nsga2",
}  # fmt: skip
Numbers = dict[tuple[str, int, int], tuple[float, float, float, float]]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    yield opened
    opened.close()


@pytest.fixture
def numbers(store: ResultsStore) -> Numbers:
    """By drawing, knob and seed the three goals and the gap, of 15 configurations on each of two drawings."""
    stream = np.random.default_rng(8)
    spec = {"name": "s", "datasets": ["toybirds"], "methods": [{"method": "standard"}], "search": SEARCH}
    launch = store.begin_launch("s", spec=yaml.safe_dump(spec), plan={}, command="")
    found: Numbers = {}
    for data in ("f", "g"):
        for k in range(15):
            for seed in (0, 1):
                one = found[data, k, seed] = tuple(stream.uniform(0, 1, 4).round(2).tolist())  # type: ignore[assignment]
                entry = TrialEntry(
                    id=f"{data}{k}-{seed}", method="standard", method_version=1, dataset="toybirds",
                    data_fingerprint=data, seed=seed, config={"k": k},
                )  # fmt: skip
                store.enter("s", [entry])
                told = [*zip(SEARCH["metric"], ["val"] * 3, one, strict=False), ("gap", "train", one[3])]  # type: ignore[call-overload]
                metrics = [{"name": n, "split": s, "value": v, "group": "all"} for n, s, v in told]
                report = {"attempt": store.claim(entry.id, launch), "metrics": metrics, "n_failed": 0}
                assert store.finish(
                    entry.id, {**report, "on_failed": "wrong", "seconds": 1.0, "provenance": {}}
                )
    return found


def by_hand(numbers: Numbers) -> dict[str, set[int]]:
    """The knobs on the front of each drawing: means over seeds, conditions in both."""
    front: dict[str, set[int]] = {}
    for data in ("f", "g"):
        means = {
            k: np.mean([np.multiply(numbers[data, k, seed][:3], (1, 1, -1)) for seed in (0, 1)], axis=0)
            for k in range(15)
            if max(numbers[data, k, seed][3] for seed in (0, 1)) <= 0.5
        }
        front[data] = {
            k
            for k, own in means.items()
            if not any((other >= own).all() and (other > own).any() for other in means.values())
        }
    return front


def test_the_front_is_what_no_other_beats_on_its_data(store: ResultsStore, numbers: Numbers) -> None:
    search = Search.model_validate(SEARCH)
    with store.reading() as connection:
        found = front(connection, "s", search)
    expected = by_hand(numbers)
    assert 0 < len(expected["f"]) < 15
    shown = {
        data: {int(one.trials[0][1:].split("-")[0]) for one in found if one.trials[0][0] == data}
        for data in "fg"
    }
    assert shown == expected
    assert [one.goals[0] for one in found] == sorted((one.goals[0] for one in found), reverse=True)
    rows = list(csv.DictReader(io.StringIO(as_csv(found, search))))
    assert [row["config_id"] for row in rows] == [one.config_id for one in found]
    assert float(rows[0]["average_accuracy"]) == pytest.approx(found[0].goals[0])
    assert rows[0]["trials"].split() == list(found[0].trials)


def test_the_analysis_takes_the_goals_of_the_search(store: ResultsStore, numbers: Numbers) -> None:
    search = Search.model_validate(SEARCH)
    kept = keeps(store, "s", search)
    table = pareto(
        store, "s", ["average_accuracy", "worst_group_accuracy"], ["held_out_loss"], split="val", among=kept
    )
    assert len(table) == sum(
        max(numbers[data, k, seed][3] for seed in (0, 1)) <= 0.5 for data in "fg" for k in range(15)
    )
    said = CliRunner().invoke(app, ["pareto", "s", "--results", store.url])
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0] == "s: val, selection last"
    assert {"average_accuracy", "worst_group_accuracy", "held_out_loss"} <= set(lines[1].split())
    assert len([line for line in lines if line.startswith("toybirds")]) == sum(
        map(len, by_hand(numbers).values())
    )
    assert "only configurations that keep gap <= 0.5 in every trial" in said.stdout


def test_the_report_shows_the_front(store: ResultsStore, numbers: Numbers, tmp_path: Path) -> None:
    told = contents(store, "s")["front"]
    assert told["goals"] == ["average_accuracy", "worst_group_accuracy", "held_out_loss"]
    write_report(store, "s", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "What no other configuration beats" in page
    assert "that keep gap &lt;= 0.5" in page


def test_runs_on_the_front_are_tagged_in_mlflow_until_they_fall_off(
    store: ResultsStore, numbers: Numbers, tmp_path: Path
) -> None:
    mirror = Mirror(f"sqlite:///{tmp_path}/mlflow.db", store, "s")
    some = ["f0-0", "f1-0", "f2-0"]
    for trial_id in some:
        mirror.submit(trial_id)
    mirror.submit_front(["f0-0", "f1-0"])
    mirror.submit_front(["f1-0", "f2-0"])
    mirror.close()
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (one for one in client.search_experiments() if one.name == "s")
    tagged = client.search_runs([experiment.experiment_id], "tags.on_front = 'true'")
    assert {run.data.tags["trial"] for run in tagged} == {"f1-0", "f2-0"}
