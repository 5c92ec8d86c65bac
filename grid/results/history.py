"""What earlier launches left that a new one builds on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, union

from grid.results.schema import EarlierTrial, ExperimentTrial, Metric, Trial, TrialStage


class Stopped(NamedTuple):
    """How a trial was stopped early: steps done, by which reported number, and what that was."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True, eq=False)
class Curve:
    """What a trial reported of a metric at its steps, the first after one step. None: no number. kind: its
    method, and the fingerprint of its data."""

    trial_id: str
    kind: tuple[str, str]
    values: list[float | None]


def entered(connection: Connection, experiment: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, method and full configuration of each trial that any form of the experiment ever asked for; those
    that have ended first, the oldest before."""
    forms = [
        select(table.trial_id).where(table.experiment == experiment)
        for table in (ExperimentTrial, EarlierTrial)
    ]
    query = (
        select(Trial.id, Trial.method, Trial.config)
        .where(Trial.id.in_(union(*forms)))
        .order_by(Trial.finished_at.is_(None), Trial.finished_at, Trial.id)
    )
    return [(id_, method, json.loads(config)) for id_, method, config in connection.execute(query)]


def done_elsewhere(
    connection: Connection, experiment: str, methods: Iterable[str], fingerprints: Iterable[str]
) -> list[tuple[str, str, dict[str, Any], int, str]]:
    """Id, method, full configuration, seed and experiment of each done trial of these methods on these data
    that other experiments ask for, and this one does not, the oldest first."""
    own = select(ExperimentTrial.trial_id).where(ExperimentTrial.experiment == experiment)
    query = (
        select(Trial.id, Trial.method, Trial.config, Trial.seed, ExperimentTrial.experiment)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(
            Trial.status == "done",
            Trial.method.in_(sorted(set(methods))),
            Trial.data_fingerprint.in_(sorted(set(fingerprints))),
            Trial.id.not_in(own),
        )
        .order_by(Trial.finished_at, Trial.id, ExperimentTrial.experiment)
    )
    return [
        (i, method, json.loads(config), seed, by) for i, method, config, seed, by in connection.execute(query)
    ]


def metric_values(
    connection: Connection, trial_ids: Sequence[str], name: str, split: str, selection: str
) -> list[float]:
    """The metric's value in each of these trials that is done and has it."""
    query = (
        select(Metric.value)
        .join(Trial, Trial.id == Metric.trial_id)
        .where(
            Trial.status == "done",
            Metric.trial_id.in_(trial_ids),
            Metric.name == name,
            Metric.split == split,
            Metric.selection == selection,
            Metric.group_name == "all",
            Metric.step.is_(None),
            Metric.value.is_not(None),
        )
    )
    return [float(value) for value in connection.scalars(query) if value is not None]


def condition_values(
    connection: Connection, trial_ids: Sequence[str], name: str, selection: str
) -> list[float]:
    """The number that a condition of a search is about, in each of these trials that is done and has it: on
    the split val, or else on train. Never on test."""
    on_val = metric_values(connection, trial_ids, name, "val", selection)
    return on_val or metric_values(connection, trial_ids, name, "train", selection)


def done_by_method(connection: Connection, experiment: str) -> dict[str, list[str]]:
    """Ids of the done trials that the experiment asks for, by method."""
    query = (
        select(Trial.method, Trial.id)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(ExperimentTrial.experiment == experiment, Trial.status == "done")
        .order_by(Trial.method, Trial.id)
    )
    found: dict[str, list[str]] = {}
    for method, trial_id in connection.execute(query):
        found.setdefault(method, []).append(trial_id)
    return found


@dataclass(frozen=True)
class DoneConfiguration:
    """A configuration on one drawing of the data (fingerprint), and its done trials."""

    method: str
    config_id: str
    data: str
    trials: tuple[str, ...]


def done_configurations(connection: Connection, experiment: str) -> list[DoneConfiguration]:
    """Those with a done trial that the experiment asks for."""
    query = (
        select(Trial.method, Trial.config_id, Trial.data_fingerprint, Trial.id)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(ExperimentTrial.experiment == experiment, Trial.status == "done")
        .order_by(Trial.method, Trial.config_id, Trial.seed, Trial.id)
    )
    found: dict[tuple[str, str, str], list[str]] = {}
    for method, config_id, data, trial_id in connection.execute(query):
        found.setdefault((method, config_id, data), []).append(trial_id)
    return [DoneConfiguration(*key, tuple(ids)) for key, ids in found.items()]


def validated(connection: Connection, trial_id: str) -> list[str]:
    """`metric (selection)` of each number that a trial has on the split val for all groups together."""
    query = (
        select(Metric.name, Metric.selection)
        .where(
            Metric.trial_id == trial_id,
            Metric.split == "val",
            Metric.group_name == "all",
            Metric.step.is_(None),
            Metric.value.is_not(None),
        )
        .order_by(Metric.selection, Metric.name)
    )
    return [f"{name} ({selection})" for name, selection in connection.execute(query)]


def stopped(connection: Connection, trial_ids: Iterable[str]) -> dict[str, Stopped]:
    """Those of the trials that were stopped early and are not to run again."""
    wanted = set(trial_ids)
    ended = (Trial.status == "stopped", Trial.to_rerun.is_not(True))
    columns = (Trial.id, Trial.stopped_step, Trial.stopped_metric, Trial.stopped_value)
    found = connection.execute(select(*columns).where(*ended))
    return {
        one: Stopped(step, metric, value)
        for one, step, metric, value in found
        if one in wanted and step is not None and metric is not None and value is not None
    }


def curves(connection: Connection, experiment: str, name: str, split: str) -> list[Curve]:
    """A metric at steps in each trial that the experiment asks for and that is done or stopped early, the
    oldest first."""
    query = (
        select(Trial.id, Trial.method, Trial.data_fingerprint, Metric.value)
        .join(Metric, Metric.trial_id == Trial.id)
        .join(ExperimentTrial, ExperimentTrial.trial_id == Trial.id)
        .where(
            ExperimentTrial.experiment == experiment,
            Trial.status.in_(("done", "stopped")),
            Trial.to_rerun.is_not(True),
            Metric.name == name,
            Metric.split == split,
            Metric.step.is_not(None),
        )
        .order_by(Trial.finished_at, Trial.id, Metric.id)
    )
    found: dict[str, Curve] = {}
    for trial_id, method, data, value in connection.execute(query):
        found.setdefault(trial_id, Curve(trial_id, (method, data), [])).values.append(value)
    return list(found.values())


def attempts(connection: Connection, trial_ids: Iterable[str]) -> dict[str, int]:
    """Number of the last attempt of those trials that were started and are not done, nor to run again."""
    wanted = set(trial_ids)
    ended = Trial.status.in_(("interrupted", "failed"))
    query = select(Trial.id, Trial.attempt).where(Trial.attempt > 0, ended, Trial.to_rerun.is_not(True))
    return {trial_id: n for trial_id, n in connection.execute(query) if trial_id in wanted}


def stage_keys_in_use(connection: Connection) -> set[str]:
    """Keys of all stages that a trial of this results store reads by name."""
    return set(connection.scalars(select(TrialStage.stage_key).distinct()))
