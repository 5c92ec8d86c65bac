"""The main metrics are found among the others: logged first, and in a view that is saved with the experiment."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from grid.results.store import ResultsStore
from grid.tracking.mirror import Mirror, main_metrics_page
from tests.grid.tracking.mirrored_runs import three_trials
from tests.grid.tracking.test_mirror import blank, finish, mirrored, runs, start

pytestmark = pytest.mark.slow
WORST, AVERAGE = "metrics.`test/last/worst_group_accuracy`", "metrics.`test/last/average_accuracy`"


def tags(uri: str, name: str) -> dict[str, str]:
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(name)
    assert experiment is not None
    return dict(experiment.tags)


def view(uri: str, name: str) -> dict[str, Any]:
    """The state that MLflow's page reads from the saved view."""
    saved = json.loads(tags(uri, name)["mlflow.sharedViewState.main"])
    assert saved["name"] == "Main metrics"
    state: dict[str, Any] = json.loads(saved["state"])
    return state


def test_main_metrics_come_first_and_curves_last(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    three_trials(store, name, tmp_path)
    mirror.mirror_trial("size-4")
    (run,) = runs(uri, name)
    names = list(run.data.metrics)
    assert names[:2] == ["test/last/worst_group_accuracy", "test/last/average_accuracy"]
    assert len(names) == 46
    assert {n.split("/")[0] for n in names[:43]} == {"test"}
    assert names[43:] == [
        "val/last/worst_group_accuracy",
        "val/last/average_accuracy",
        "curve/test/last/average_accuracy",
    ]


def test_the_view_has_main_metrics_and_what_varies(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    three_trials(store, name, tmp_path)
    mirror.mirror_trial("size-4")
    state = view(uri, name)
    columns = state["selectedColumns"]
    assert columns[:2] == [WORST, AVERAGE]
    assert [column for column in columns if column.startswith("params")] == [
        "params.`bag_size`",
        "params.`rho_max`",
    ]
    assert (state["orderByKey"], state["orderByAsc"]) == (WORST, False)
    lines, *bars = state["compareRunCharts"]
    assert lines["selectedParams"] == ["bag_size", "rho_max"]
    assert [bar["metricKey"] for bar in bars] == [
        "test/last/worst_group_accuracy",
        "test/last/average_accuracy",
    ]


def test_before_a_trial_is_done_there_is_no_view_and_no_link_to_one(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    trial_id, launch = start(store, name)
    mirror.mirror_trial(trial_id)
    mirror.mirror_launch(launch, {})
    assert not {"mlflow.sharedViewState.main", "mlflow.note.content"} & set(tags(uri, name))
    finish(store, trial_id)
    mirror.mirror_trial(trial_id)
    assert view(uri, name)["selectedColumns"][:2] == [WORST, AVERAGE]


def test_a_launch_that_ends_brings_the_view_up_to_date(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    trial_id, launch = start(store, name)
    finish(store, trial_id)
    mirror.mirror_trial(trial_id)
    assert view(uri, name)["compareRunCharts"][0]["selectedParams"] == []
    three_trials(store, name, tmp_path)
    store.end_launch(launch, "done")
    mirror.mirror_launch(launch, {})
    assert view(uri, name)["compareRunCharts"][0]["selectedParams"] == ["bag_size", "rho_max"]


def test_a_note_that_someone_wrote_stays(
    uri: str, store: ResultsStore, mirror: Mirror, name: str, tmp_path: Path
) -> None:
    three_trials(store, name, tmp_path)
    mirror.mirror_trial("size-4")
    assert "viewStateShareKey=main" in tags(uri, name)["mlflow.note.content"]
    client = MlflowClient(tracking_uri=uri)
    client.set_experiment_tag(runs(uri, name)[0].info.experiment_id, "mlflow.note.content", "mine")
    again = Mirror(uri, store, name)
    again.mirror_trial("size-6")
    again.close()
    assert tags(uri, name)["mlflow.note.content"] == "mine"


def test_another_mlflow_gets_the_view_and_the_page_is_where_it_is(
    uri: str, store: ResultsStore, name: str, tmp_path: Path
) -> None:
    three_trials(store, name, tmp_path)
    assert main_metrics_page(store, name, uri) is None
    mirrored(store, uri, name)
    other = blank(uri, tmp_path / "other.db")
    mirrored(store, other, name)
    assert view(other, name) == view(uri, name)
    page = main_metrics_page(store, name, other)
    assert page is not None
    assert re.findall(r"experiments/(\w+)/", page) == [runs(other, name)[0].info.experiment_id]
    assert page in tags(other, name)["mlflow.note.content"]
    assert main_metrics_page(store, name, uri) is None, "SQL knows the other one"
