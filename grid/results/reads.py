"""What the commands show of a trial or an experiment."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from grid.results.schema import (
    Base,
    EarlierTrial,
    Experiment,
    ExperimentTrial,
    Launch,
    Metric,
    Preference,
    Stage,
    Trial,
    TrialParam,
    TrialStage,
)

ACCURACIES = ("average_accuracy", "adjusted_average_accuracy", "worst_group_accuracy")


def trial(connection: Connection, id_or_prefix: str) -> dict[str, Any]:
    trial_id = _the_one_id(connection, id_or_prefix)
    asked_by = rows(connection, ExperimentTrial, ExperimentTrial.trial_id == trial_id)
    earlier = rows(connection, EarlierTrial, EarlierTrial.trial_id == trial_id)
    return {
        **rows(connection, Trial, Trial.id == trial_id)[0],
        "params": rows(connection, TrialParam, TrialParam.trial_id == trial_id),
        "metrics": rows(connection, Metric, Metric.trial_id == trial_id),
        "stages": rows(connection, TrialStage, TrialStage.trial_id == trial_id),
        "experiments": sorted(row["experiment"] for row in [*asked_by, *earlier]),
        "experiments_earlier": [row["experiment"] for row in earlier],
        "variants": {row["experiment"]: row["variant"] for row in [*asked_by, *earlier] if row["variant"]},
    }


def _the_one_id(connection: Connection, id_or_prefix: str) -> str:
    query = select(Trial.id).where(Trial.id.startswith(id_or_prefix, autoescape=True))
    found = list(connection.scalars(query.order_by(Trial.id).limit(5)))
    if id_or_prefix in found:
        return id_or_prefix
    if len(found) != 1:
        some = f"several ({', '.join(found)})" if found else "none"
        raise LookupError(f"trial {id_or_prefix!r}: {some} in the results store")
    return found[0]


def experiment_summary(connection: Connection, name: str) -> dict[str, Any]:
    if not rows(connection, Experiment, Experiment.name == name):
        raise LookupError(f"experiment {name!r}: none in the results store")
    trials, earlier = (
        connection.execute(
            select(Trial.id, Trial.status, Trial.seconds, Trial.error, Trial.warning, Trial.to_rerun)
            .join(table, table.trial_id == Trial.id)
            .where(table.experiment == name)
            .order_by(Trial.id)
        ).all()
        for table in (ExperimentTrial, EarlierTrial)
    )
    return {
        "experiment": name,
        "trials": dict(Counter(trial.status for trial in trials)),
        "earlier": dict(Counter(trial.status for trial in earlier)),
        "seconds": sum(trial.seconds or 0.0 for trial in trials),
        "failures": {trial.id: trial.error for trial in trials if trial.status == "failed"},
        "no_number": _without_number(connection, name),
        "warnings": {trial.id: trial.warning for trial in trials if trial.warning},
        "to_rerun": [trial.id for trial in trials if trial.to_rerun],
        "stages": _stages(connection, name),
        "launches": rows(connection, Launch, Launch.experiment == name),
    }


def stopped_line(trial: Mapping[str, Any]) -> str:
    """How a trial was stopped early; empty if it was not."""
    if trial["stopped_step"] is None:
        return ""
    return f"after step {trial['stopped_step']}, by {trial['stopped_metric']} = {trial['stopped_value']:.6g}"


def warned(warnings: Iterable[str]) -> list[str]:
    """One line for each warning that done trials carry, with how many do; the most frequent first."""
    counts = Counter(warnings).most_common()
    return [f"WARNING of {count} trial{'s' if count > 1 else ''}: {text}" for text, count in counts]


def _stages(connection: Connection, experiment: str) -> list[dict[str, Any]]:
    """The finished stages of the trials that the present spec asks for, each with what it found, in words."""
    asked = (
        select(TrialStage.stage_key)
        .join(ExperimentTrial, ExperimentTrial.trial_id == TrialStage.trial_id)
        .where(ExperimentTrial.experiment == experiment)
    )
    names = ("key", "kind", "name", "dataset", "images", "failed", "model_inputs", "seconds")
    found = rows(connection, Stage, Stage.key.in_(asked))
    found.sort(key=lambda stage: (stage["dataset"] or "", stage["kind"], stage["key"]))
    return [
        {**{name: stage[name] for name in names}, "found": json.loads(stage["manifest"]).get("found", "")}
        for stage in found
    ]


def _without_number(connection: Connection, experiment: str) -> dict[str, list[str]]:
    """By id, the accuracies of done trials that are not numbers, as those of a training that diverged."""
    query = (
        select(Metric.trial_id, Metric.name, Metric.split, Metric.selection)
        .join(Trial, Trial.id == Metric.trial_id)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(
            ExperimentTrial.experiment == experiment,
            Trial.status == "done",
            Metric.name.in_(ACCURACIES),
            Metric.group_name == "all",
            Metric.step.is_(None),
            Metric.value.is_(None),
        )
        .order_by(Metric.trial_id, Metric.id)
    )
    found: dict[str, list[str]] = {}
    for trial_id, name, split, selection in connection.execute(query):
        found.setdefault(trial_id, []).append(f"{name} ({split}, {selection})")
    return found


def varying_knobs(connection: Connection, experiment: str, method: str, dataset: str) -> set[str]:
    """Knobs that have several values among the trials of a method that an experiment asks for now."""
    query = (
        select(TrialParam.name)
        .join(Trial, Trial.id == TrialParam.trial_id)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(ExperimentTrial.experiment == experiment, Trial.method == method, Trial.dataset == dataset)
        .group_by(TrialParam.name)
        .having(func.min(TrialParam.value) < func.max(TrialParam.value))
    )
    return set(connection.scalars(query))


def done_trials(connection: Connection, experiment: str) -> list[dict[str, Any]]:
    asked = select(ExperimentTrial.trial_id).where(ExperimentTrial.experiment == experiment)
    return rows(connection, Trial, Trial.id.in_(asked) & (Trial.status == "done"))


def preferences(
    connection: Connection, experiment: str, trials: tuple[str, str], voter: str
) -> list[dict[str, Any]]:
    sides = Preference.left_trial.in_(trials) & Preference.right_trial.in_(trials)
    return rows(
        connection, Preference, sides & (Preference.experiment == experiment) & (Preference.voter == voter)
    )


def rows(connection: Connection, table: type[Base], condition: Any) -> list[dict[str, Any]]:
    """Whole rows of one table, in the order of its primary key."""
    columns = table.__table__.columns
    query = select(*columns).where(condition).order_by(*table.__table__.primary_key)
    return [dict(row) for row in connection.execute(query).mappings()]
