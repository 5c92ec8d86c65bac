"""The mirror: idempotent, equal to SQL, healed after crashes, whole in whatever MLflow it is given; against a
real MLflow on SQLite."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import text

from grid.results.store import ResultsStore, TrialEntry
from grid.tracking.keys import metric_key
from grid.tracking.mirror import Mirror, needs_mirror

pytestmark = pytest.mark.slow
HEAL = """
import sys
from grid.results.store import ResultsStore
from grid.tracking.mirror import Mirror, needs_mirror
uri, url, name = sys.argv[1:]
store = ResultsStore.open(url)
assert needs_mirror(store, name, uri)
mirror = Mirror(uri, store, name)
mirror.submit_heal()
mirror.close()
assert not needs_mirror(store, name, uri)
"""


def blank(uri: str, path: Path) -> str:
    """A new MLflow database at this path."""
    shutil.copyfile(Path(uri.removeprefix("sqlite:///")).with_name("blank.db"), path)
    return f"sqlite:///{path}"


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
    (pictures.parent / "pictures.json").write_text("[]")
    trial_id, launch = start(store, name)
    assert needs_mirror(store, name, uri)
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
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["pictures", "pictures.json"]


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
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, launch = start(store, name)
    store.end_launch(launch, "failed")
    store.fail(trial_id, "boom")
    mirror.heal()
    assert not needs_mirror(store, name, uri)
    store.claim(trial_id, launch)
    store.fail(trial_id, "boom again")
    assert needs_mirror(store, name, uri)


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
    assert not needs_mirror(store, name, uri)


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
    mirror.submit_heal()
    for number in range(3):
        trial_id, launch = start(store, name, number)
        mirror.submit(trial_id)
        finish(store, trial_id)
        mirror.submit(trial_id)
        store.end_launch(launch, "done")
        mirror.submit_launch(launch, {})
    mirror.close()
    assert [run.info.status for run in runs(uri, name)] == ["FINISHED"] * 6
    assert not needs_mirror(store, name, uri)


def test_an_unreachable_server_is_one_line_a_failure_and_loses_nothing(
    uri: str,
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
    assert needs_mirror(store, name, uri)


def mirrored(store: ResultsStore, uri: str, name: str) -> list[str]:
    """The statuses of the runs in this MLflow after a command has healed it, in the order of their names."""
    if needs_mirror(store, name, uri):
        mirror = Mirror(uri, store, name)
        mirror.submit_heal()
        mirror.close()
    assert not needs_mirror(store, name, uri)
    return [run.info.status for run in sorted(runs(uri, name), key=lambda run: run.info.run_name)]


def test_another_mlflow_or_one_that_was_lost_is_filled_from_sql(
    uri: str, store: ResultsStore, name: str, tmp_path: Path
) -> None:
    launch = 0
    for number, end in enumerate((finish, lambda store, trial: store.fail(trial, "boom"))):
        trial_id, launch = start(store, name, number)
        end(store, trial_id)
    store.end_launch(1, "interrupted")
    store.end_launch(launch, "failed")
    all_of_it = ["KILLED", "FAILED", "FINISHED", "FAILED"]  # launch 1, launch 2, trial 0, trial 1
    assert mirrored(store, uri, name) == all_of_it
    there = {run.info.run_id for run in runs(uri, name)}
    other = blank(uri, tmp_path / "other.db")
    assert mirrored(store, other, name) == all_of_it, "MLFLOW_TRACKING_URI was changed"
    assert mirrored(store, uri, name) == all_of_it, "and changed back"
    assert {run.info.run_id for run in runs(uri, name)} == there, "to the runs that were there"
    assert mirrored(store, other, name) == all_of_it
    (tmp_path / "other.db").unlink()
    assert needs_mirror(store, name, other), "the file was deleted"
    blank(uri, tmp_path / "other.db")
    subprocess.run([sys.executable, "-c", HEAL, other, store.url, name], check=True)
    shutil.copyfile(
        tmp_path / "other.db", tmp_path / "as it is.db"
    )  # MLflow here still has the deleted one open
    other = f"sqlite:///{tmp_path}/as it is.db"
    assert sorted(run.info.status for run in runs(other, name)) == sorted(all_of_it)
    client = MlflowClient(tracking_uri=other)
    (trial,) = client.search_runs([runs(other, name)[0].info.experiment_id], "tags.trial = 'trial-0'")
    assert trial.data.metrics["test/last/average_accuracy"] == 0.75


def test_a_file_that_is_no_database_any_more_is_named_with_what_mends_it(
    store: ResultsStore, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(store, name)
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"no database, but as long as the header of one" * 20)
    assert needs_mirror(store, name, f"sqlite:///{file}")
    mirror = Mirror(f"sqlite:///{file}", store, name)
    mirror.submit_heal()
    mirror.close()
    assert caplog.messages
    for line in caplog.messages:
        assert f"{file}: file is not a database; remove it, and the next run fills a new one" in line


def test_what_failed_half_way_is_made_up_for_the_next_time(
    uri: str, store: ResultsStore, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        trial_id, launch = start(store, name, number)
        finish(store, trial_id)
        store.end_launch(launch, "done")
    mirrored(store, uri, name)
    other = blank(uri, tmp_path / "other.db")
    with monkeypatch.context() as patch:
        log_batch = MlflowClient.log_batch

        def failing(self: MlflowClient, run_id: str, **what: Any) -> None:
            if "metrics" in what and len(runs(other, name)) > 4:
                raise OSError("no space left")
            log_batch(self, run_id, **what)

        patch.setattr(MlflowClient, "log_batch", failing)
        halfway = Mirror(other, store, name)
        halfway.submit_heal()
        halfway.close()
    assert needs_mirror(store, name, other)
    assert mirrored(store, other, name) == ["FINISHED"] * 6


def test_an_experiment_that_was_deleted_in_mlflow_is_brought_back(
    uri: str, store: ResultsStore, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trial_id, launch = start(store, name)
    finish(store, trial_id)
    store.end_launch(launch, "done")
    mirrored(store, uri, name)
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(runs(uri, name)[0].info.experiment_id)
    assert needs_mirror(store, name, uri)
    assert mirrored(store, uri, name) == ["FINISHED"] * 2
    assert [message for message in caplog.messages if "brought back" in message]


def test_names_that_mlflow_refuses_are_numbers_of_their_own(
    uri: str, store: ResultsStore, tmp_path: Path
) -> None:
    """Groups that differ in a refused character alone, names that read as paths, long ones, and files."""
    name = "long " * 100
    left = tmp_path / "o'neil" / "files"
    left.mkdir(parents=True)
    files = ("a#b.csv", "a?b.csv", "100%.csv", "plain.csv")
    for file in files:
        (left / file).write_text(file)
    trial = TrialEntry(
        id="odd", method="m" * 300, method_version=1, dataset="d" * 300, data_fingerprint="f", seed=0,
        config={"a|b": 1, "a:b": 2, "a,b": 3, "../x": 4, "/": "v" * 9000, "k" * 300: 5, "k" * 301: 6},
    )  # fmt: skip
    store.enter(name, [trial])
    store.claim(trial.id, None)
    groups = ("a|b", "a:b", "a,b", "a_b", "a/../b", "/a", "a//b", ".", "..", "ä", "a" * 300, "a" * 301)
    place = {"name": "accuracy", "split": "test", "selection": "last", "step": None}
    metrics = [{**place, "group": group, "value": number} for number, group in enumerate(groups)]
    report = {"n_failed": 0, "on_failed": "wrong", "seconds": 1.0, "provenance": {}, "warnings": ["w" * 9000]}
    store.finish(trial.id, {**report, "attempt": 1, "metrics": metrics, "uri": left.parent.as_uri()})
    own = Mirror(uri, store, name)
    own.mirror_trial(trial.id)
    own.mirror_trial(trial.id)
    own.close()
    client = MlflowClient(tracking_uri=uri)
    found = store.trial(trial.id)
    run = client.get_run(found["mlflow_run_id"])
    assert sorted(run.data.metrics.values()) == list(range(len(groups)))
    assert run.data.metrics == {metric_key(row): row["value"] for row in found["metrics"]}
    assert run.data.metrics["test/last/accuracy/a:b"] == 1
    assert len(run.data.params) == 7
    assert sorted(run.data.params.values())[:6] == list("123456")
    listed = client.list_artifacts(run.info.run_id, "files")
    assert sorted(
        Path(client.download_artifacts(run.info.run_id, f.path)).read_text() for f in listed
    ) == sorted(files)


def test_a_results_store_with_a_quote_in_its_path_finds_its_run_again(
    uri: str, name: str, tmp_path: Path
) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/o'neil.db")
    trial_id, _ = start(store, name)
    mirror = Mirror(uri, store, name)
    mirror.mirror_trial(trial_id)
    with store.writing() as connection:
        connection.execute(text("UPDATE trial SET mlflow_run_id=NULL, mlflow_status='creating'"))
    mirror.mirror_trial(trial_id)
    mirror.close()
    assert len(runs(uri, name)) == 1
    store.close()
