"""The mirror: idempotent, equal to SQL, healed after crashes; against a real MLflow on SQLite."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import text

from grid.results.store import ResultsStore, TrialEntry
from grid.tracking import Mirror, metric_key, needs_mirror

pytestmark = pytest.mark.slow
_names = (f"experiment {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for all tests of this file: making its schema takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    yield opened
    opened.close()


@pytest.fixture
def mirror(uri: str, store: ResultsStore, name: str) -> Iterator[Mirror]:
    opened = Mirror(uri, store, name)
    yield opened
    opened.close()


def start(store: ResultsStore, name: str, number: int = 0) -> tuple[str, int]:
    trial = TrialEntry(
        id=f"trial-{number}", method="salf_cbm", method_version=1, dataset="toybirds",
        data_fingerprint="f", seed=number, config={"grid_size": 7, "deep": {"name": "x", "y": 2}},
    )  # fmt: skip
    store.enter(name, [trial])
    launch = store.begin_launch(name, spec="name: spec", plan={"trials": 1}, command="run")
    store.claim(trial.id, launch)
    return trial.id, launch


def finish(store: ResultsStore, trial_id: str, uri: str = "", attempt: int = 1) -> None:
    metric = {"split": "test", "group": "all", "selection": "last", "step": None}
    numbers = [("average_accuracy", 0.75), ("worst_group_accuracy", float("nan"))]
    curve = [{**metric, "name": "loss", "value": 1 / step, "step": step} for step in (1, 2, 3)]
    done = {
        "attempt": attempt,
        "metrics": [*({**metric, "name": n, "value": v} for n, v in numbers), *curve],
        "n_failed": 0, "on_failed": "wrong", "seconds": 1.0, "provenance": {}, "uri": uri,
    }  # fmt: skip
    assert store.finish(trial_id, done)


def runs(uri: str, name: str) -> list[Any]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_a_mirrored_trial_is_what_sql_has(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    pictures = tmp_path / "trial 1" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "one.png").write_bytes(b"png")
    trial_id, launch = start(store, name)
    assert needs_mirror(store, name)
    finish(store, trial_id, uri=pictures.parent.as_uri())
    mirror.mirror_trial(trial_id)
    mirror.mirror_trial(trial_id)
    (run,) = runs(uri, name)
    trial = store.trial(trial_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_id == trial["mlflow_run_id"]
    assert run.data.params == {"grid_size": "7", "deep.name": "x", "deep.y": "2"}
    final = {metric_key(m): m["value"] for m in trial["metrics"] if m["value"] is not None}
    assert run.data.metrics == final
    assert run.data.metrics["curve/test/last/loss"] == pytest.approx(1 / 3)
    tags = {"trial": trial_id, "launch": str(launch), "method": "salf_cbm", "status": "done"}
    assert tags.items() <= run.data.tags.items()
    client = MlflowClient(tracking_uri=uri)
    history = client.get_metric_history(run.info.run_id, "curve/test/last/loss")
    assert sorted(point.step for point in history) == [1, 2, 3]
    assert [f.path for f in client.list_artifacts(run.info.run_id, "pictures")] == (["pictures/one.png"])


def test_a_trial_that_runs_again_continues_its_run(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, launch = start(store, name)
    seen = []
    for end in (lambda: store.fail(trial_id, "boom"), lambda: store.fail(trial_id, "boom again")):
        mirror.mirror_trial(trial_id)
        seen.append(runs(uri, name)[0].info.status)
        end()
        mirror.mirror_trial(trial_id)
        seen.append(runs(uri, name)[0].info.status)
        store.claim(trial_id, launch)
    store.interrupt([trial_id])
    mirror.mirror_trial(trial_id)
    (run,) = runs(uri, name)
    assert seen == ["RUNNING", "FAILED"] * 2
    assert run.info.status == "KILLED"


def test_an_end_like_the_one_before_is_not_taken_for_mirrored(
    store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, launch = start(store, name)
    store.end_launch(launch, "failed")
    mirror.mirror_launch(launch, {})
    store.fail(trial_id, "boom")
    mirror.mirror_trial(trial_id)
    assert not needs_mirror(store, name)
    store.claim(trial_id, launch)
    store.fail(trial_id, "boom again")
    assert needs_mirror(store, name)


def test_a_crash_between_mlflow_and_sql_makes_no_second_run(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, _ = start(store, name)
    mirror.mirror_trial(trial_id)
    with store.writing() as connection:
        connection.execute(text("UPDATE trial SET mlflow_run_id=NULL, mlflow_status='creating'"))
    finish(store, trial_id)
    mirror.heal()
    (run,) = [run for run in runs(uri, name) if run.data.tags["kind"] == "trial"]
    assert (run.info.status, run.info.run_id) == (
        "FINISHED",
        store.trial(trial_id)["mlflow_run_id"],
    )


def test_healing_leaves_no_run_running_that_should_not(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, launch = start(store, name)
    mirror.mirror_trial(trial_id)
    mirror.mirror_launch(launch, {})
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    lost = client.create_run(experiment.experiment_id).info.run_id
    theirs = client.create_run(experiment.experiment_id, tags={"results": "other"}).info.run_id
    mirror.heal()
    assert client.get_run(lost).info.status == "KILLED"
    assert client.get_run(theirs).info.status == "RUNNING", "of another results store"
    store.end_launch(launch, "interrupted")
    store.heal()
    mirror.heal()
    assert {r.info.status for r in runs(uri, name) if r.info.run_id != theirs} == {"KILLED"}
    assert not needs_mirror(store, name)


def test_the_launchs_summary_run_holds_spec_plan_and_tables(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    _, launch = start(store, name)
    mirror.mirror_launch(launch, {})
    store.end_launch(launch, "done")
    mirror.mirror_launch(launch, {"tables/ablation.csv": "value,mean"})
    (run,) = runs(uri, name)
    client = MlflowClient(tracking_uri=uri)
    assert run.info.status == "FINISHED"
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == ({"spec.yaml", "plan.json", "tables"})
    assert run.info.artifact_uri.startswith("file://")


def test_submitted_trials_are_mirrored_when_it_closes(uri: str, store: ResultsStore, name: str) -> None:
    mirror = Mirror(uri, store, name)
    for number in range(3):
        trial_id, launch = start(store, name, number)
        mirror.submit(trial_id)
        finish(store, trial_id)
        mirror.submit(trial_id)
        store.end_launch(launch, "done")
        mirror.submit_launch(launch, {})
    mirror.close()
    assert [run.info.status for run in runs(uri, name)] == ["FINISHED"] * 6
    assert not needs_mirror(store, name)


def test_an_unreachable_server_is_one_line_a_failure_and_loses_nothing(
    store: ResultsStore,
    name: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trial_id, _ = start(store, name)
    finish(store, trial_id)
    with caplog.at_level(logging.WARNING):
        mirror = Mirror("http://me:s3cret@127.0.0.1:9", store, name)
        for _ in range(5):
            mirror.submit(trial_id)
        mirror.close()
    assert len(caplog.messages) == 3, "then it gives up"
    assert all("\n" not in message and "s3cret" not in message for message in caplog.messages)
    assert store.statuses([trial_id]) == {trial_id: "done"}
    assert needs_mirror(store, name)
