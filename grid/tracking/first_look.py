"""What MLflow's pages show first of an experiment: its main metrics, among hundreds.

A run's page and the comparison of runs list metrics in the order in which they were logged: `in_order`. The
table of runs shows no metric of itself, and MLflow has no setting of a default; what it has is views that are
saved with the experiment: `view_tags` saves one, and links to it above the table.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from grid.results.reads import varying_knobs
from grid.results.schema import ExperimentTrial, Metric, Trial
from grid.tracking.keys import key, metric_key

MAIN = (  # of the studies, each with what its trials report
    "worst_group_accuracy",
    "average_accuracy",
    "attention_on_object",
    "mean_iou",
    "insertion_auc_eac_official",
    "deletion_auc_eac_official",
)
KNOBS = 10  # shown in columns; more are in "Columns"
VIEW = "main"
NOTE = "mlflow.note.content"


def in_order(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of metrics: the main ones, others on the test split, others, training curves."""

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        is_main = row["group_name"] == "all" and row["name"] in MAIN
        rank = MAIN.index(row["name"]) if is_main else len(MAIN)
        return row["step"] is not None, row["split"] != "test", row["selection"] != "last", rank

    return sorted(metrics, key=place)


def runs_page(experiment_id: str) -> str:
    """Where the view of the main metrics is, within MLflow's address, in its pages for the training of models
    (those for language models open first)."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def view_tags(connection: Connection, experiment: str, experiment_id: str) -> dict[str, str]:
    """The tags of an experiment of MLflow that are its view, and the link to it; none if no trial has a main
    metric yet."""
    metrics, knobs = _main_metrics(connection, experiment), _varying(connection, experiment)
    if not metrics:
        return {}
    page = runs_page(experiment_id)
    charts = f"{page}&compareRunsMode=CHART"
    return {
        f"mlflow.sharedViewState.{VIEW}": _view(metrics, knobs),
        NOTE: f"[Main metrics of all runs]({page}), and [as charts]({charts})",
    }


def _main_metrics(connection: Connection, experiment: str) -> list[str]:
    """Keys of the main metrics that trials report."""
    query = (
        select(Metric.name)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Metric.trial_id)
        .where(ExperimentTrial.experiment == experiment, Metric.step.is_(None), Metric.name.in_(MAIN))
        .where(Metric.split == "test", Metric.selection == "last", Metric.group_name == "all")
    )
    found = set(connection.scalars(query.distinct()))
    row = {"split": "test", "selection": "last", "group_name": "all", "step": None}
    return [metric_key({**row, "name": name}) for name in MAIN if name in found]


def _varying(connection: Connection, experiment: str) -> list[list[str]]:
    """Keys of the knobs that vary, of each method on each data set; the most first."""
    query = select(Trial.method, Trial.dataset).join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
    pairs = connection.execute(query.where(ExperimentTrial.experiment == experiment).distinct())
    found = [
        sorted(map(key, varying_knobs(connection, experiment, *pair))) for pair in sorted(map(tuple, pairs))
    ]
    return sorted(found, key=len, reverse=True)


def _view(metrics: Sequence[str], knobs: Sequence[Collection[str]]) -> str:
    """A saved view as MLflow writes it. Columns are metrics, what varies, data set; the best run comes first.
    Charts: first a line for each run of the method with the most knobs that vary, in the colour of its last
    axis, then bars."""
    names = list(dict.fromkeys(name for of_one in knobs for name in of_one))[:KNOBS]
    widths = {
        **{f"metrics.`{name}`": 200 for name in metrics},
        "tags.`method`": 130,
        **{f"params.`{name}`": 110 for name in names},
        "tags.`seed`": 60,
        "attributes.`Dataset`": 300,
    }
    section = {"metricSectionId": VIEW, "deleted": False, "isGenerated": False, "runsCountToCompare": 20}
    axes = {"selectedParams": [*knobs[0]][:KNOBS], "selectedMetrics": metrics[1::-1], "showAllRuns": True}
    state = {
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": False,
        "selectedColumns": list(widths),
        "columnOrder": ["attributes.`Run Name`", *widths],
        "columnWidths": {"attributes.`Run Name`": 330, **widths},
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else MLflow sorts its sections, and this is not the first
        "compareRunSections": [
            {"uuid": VIEW, "name": "Main metrics", "display": True, "isReordered": True, "columns": 1}
        ],
        "compareRunCharts": [
            {"uuid": "lines", "type": "PARALLEL", **section, **axes},
            *(
                {"uuid": name, "type": "BAR", **section, "metricKey": name, "displayName": name}
                for name in metrics
            ),
        ],
    }
    return json.dumps({"name": "Main metrics", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})
