"""What experiments cost: seconds, GPU-seconds and model passes, and what sharing saved of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd
from sqlalchemy import Connection, func, select, true

from grid.results.reads import rows
from grid.results.schema import EarlierTrial, Experiment, ExperimentTrial, Launch, Trial, TrialStage
from grid.results.store import ResultsStore
from grid.results.throughput import (
    Estimate,
    RecordedStage,
    Throughput,
    Work,
    device_kind,
    recorded_stages,
    throughput,
)

FOR_NOTHING = ("failed", "interrupted", "stopped")  # statuses of trials that took time and have no numbers
SECOND = 19  # characters of a time to its second: manifests have no more


@dataclass(frozen=True)
class AskedTrial:
    """A trial of an experiment. here: whether a launch of this experiment ran it last; lost: seconds of one
    that failed, was interrupted or stopped early, for no number; reads: keys of the stages that it reads
    itself."""

    work: Work
    status: str
    seconds: float | None
    gpus: float
    lost: float | None
    attempt: int
    here: bool
    reads: frozenset[str]
    units: ClassVar[int] = 1
    timed: ClassVar[int] = 1
    images: ClassVar[int] = 0
    model_inputs: ClassVar[int] = 0


Part = RecordedStage | AskedTrial


@dataclass(frozen=True)
class Cost:
    """What one experiment cost. stages: all of the results store, by key; launches: its own."""

    experiment: str
    trials: list[AskedTrial]
    stages: Mapping[str, RecordedStage] = field(repr=False)
    launches: list[dict[str, Any]] = field(repr=False)
    throughput: Throughput = field(repr=False)

    @cached_property
    def closures(self) -> dict[frozenset[str], frozenset[str]]:
        """By what trials read themselves: that, and all that it was made of."""
        return {reads: self._closure(reads) for reads in {trial.reads for trial in self.trials}}

    def _closure(self, reads: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(reads)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.stages[key].inputs if key in self.stages else ()
        return frozenset(found)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of all stages that its trials rest on."""
        return frozenset().union(*self.closures.values())

    @property
    def unrecorded(self) -> int:
        """How many of them the results store does not know: not made yet, or entered in another one."""
        return len(self.keys - self.stages.keys())

    @cached_property
    def done(self) -> list[AskedTrial]:
        """Its trials that have numbers."""
        return [trial for trial in self.trials if trial.status == "done"]

    @cached_property
    def paid(self) -> list[Part]:
        """The stages that its launches made and the done trials that they ran, each once."""
        made: set[str] = set()
        for launch in self.launches:
            planned = json.loads(launch["plan"]).get("stages", ())
            missing = {stage["key"] for stage in planned if not stage["cached"]} & self.stages.keys()
            made |= {key for key in missing & self.keys if _within(self.stages[key], launch)}
        return [*(self.stages[key] for key in sorted(made)), *(trial for trial in self.done if trial.here)]

    @cached_property
    def found(self) -> list[Part]:
        """The other finished stages and done trials, which were there."""
        paid = {id(part) for part in self.paid}
        stages = [self.stages[key] for key in sorted(self.keys & self.stages.keys())]
        there: list[Part] = [*stages, *self.done]
        return [part for part in there if id(part) not in paid]

    @property
    def alone_seconds(self) -> float:
        """What its done trials would have cost, had each paid all stages that it rests on."""
        each = {reads: self._seconds(keys) for reads, keys in self.closures.items()}
        return total_seconds(self.done) + sum(each[trial.reads] for trial in self.done)

    @property
    def once_seconds(self) -> float:
        """The same, each stage paid once."""
        rested_on: frozenset[str] = frozenset().union(*(self.closures[trial.reads] for trial in self.done))
        return total_seconds(self.done) + self._seconds(rested_on)

    def _seconds(self, keys: Iterable[str]) -> float:
        return total_seconds(self.stages[key] for key in keys if key in self.stages)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each stage kind and each method on a data set, and one of all.

        Of what this experiment paid: `n` stages or done trials, `images`, `model_inputs`, `seconds`,
        `gpu_seconds`, and `seconds_each` (an image, a run or a trial: `unit`). `found`: others, which it did
        not pay; `untimed`: of n, those whose seconds are not known and count as none. `next_seconds`: what
        all of these will take again, by what was measured; `next_each`: of a unit.
        """
        by_name: dict[tuple[str, str, str], tuple[list[Part], list[Part]]] = {}
        for place, parts in enumerate((self.paid, self.found)):
            for part in parts:
                kind = "trial" if isinstance(part, AskedTrial) else "stage"
                name = (kind, part.work.kind, part.work.dataset or "")
                by_name.setdefault(name, ([], []))[place].append(part)
        rows = [self._row(*name, *by_name[name]) for name in sorted(by_name)]
        everything = {**self._row("all", "", "", self.paid, self.found), "unit": None}
        table = pd.DataFrame([*rows, everything | dict.fromkeys(("n", "found", "seconds_each", "next_each"))])
        return table.astype({"n": "Int64", "found": "Int64"})

    def _row(
        self, part: str, name: str, dataset: str, paid: Sequence[Part], found: Sequence[Part]
    ) -> dict[str, Any]:
        timed = [one for one in paid if one.seconds is not None]
        seconds = total_seconds(timed) if timed or not paid else None
        units_timed = sum(one.timed for one in timed)
        units = sum(one.units for one in [*paid, *found])
        following = self.again([*paid, *found])
        return {
            "experiment": self.experiment,
            "part": part,
            "name": name,
            "dataset": dataset,
            "n": len(paid),
            "found": len(found),
            "untimed": len(paid) - len(timed),
            "images": sum(one.images for one in paid),
            "model_inputs": sum(one.model_inputs for one in paid),
            "seconds": seconds,
            "gpu_seconds": gpu_seconds(paid),
            "unit": next((one.work.unit for one in [*paid, *found]), None),
            "seconds_each": seconds / units_timed if seconds is not None and units_timed else None,
            "next_seconds": following.seconds,
            "next_each": None if following.not_measured or not units else following.seconds / units,
        }

    def again(self, parts: Iterable[Part]) -> Estimate:
        """What these will take when they run again from nothing."""
        return self.throughput.estimate((part.work, part.units) for part in parts)

    @property
    def summary(self) -> dict[str, Any]:
        """The whole in one row: what this experiment paid; and what its done trials rest on, whoever paid it,
        in `alone_seconds`, `once_seconds` and `factor`, the one by the other."""
        stages, trials = of_stages(self.paid), of_trials(self.paid)
        once = self.once_seconds
        return {
            "experiment": self.experiment,
            "trials": len(self.trials),
            "done": len(self.done),
            "stages": len(stages),
            "found_stages": len(of_stages(self.found)),
            "images": sum(stage.images for stage in stages),
            "model_inputs": sum(stage.model_inputs for stage in stages),
            "stage_seconds": total_seconds(stages),
            "trial_seconds": total_seconds(trials),
            "gpu_seconds": gpu_seconds(self.paid),
            "untimed": sum(part.seconds is None for part in self.paid),
            "alone_seconds": self.alone_seconds,
            "once_seconds": once,
            "factor": self.alone_seconds / once if once else None,
        }


def of_stages(parts: Iterable[Part]) -> list[RecordedStage]:
    """The stages among them."""
    return [part for part in parts if isinstance(part, RecordedStage)]


def of_trials(parts: Iterable[Part]) -> list[AskedTrial]:
    """The trials among them."""
    return [part for part in parts if isinstance(part, AskedTrial)]


def total_seconds(parts: Iterable[Part]) -> float:
    """Of those whose seconds are known."""
    return sum((part.seconds for part in parts if part.seconds is not None), 0.0)


def gpu_seconds(parts: Iterable[Part]) -> float:
    """Seconds of each GPU that they held."""
    return sum((part.seconds * part.gpus for part in parts if part.seconds is not None), 0.0)


def cost(store: ResultsStore, experiment: str, every_form: bool = False) -> Cost:
    """What an experiment cost; with `every_form` also the trials that only an earlier form of it asked for.
    Raises LookupError for one that is not in the store."""
    store.experiment_summary(experiment)
    (found,) = costs(store, experiment, every_form)
    return found


def costs(store: ResultsStore, experiment: str | None = None, every_form: bool = False) -> list[Cost]:
    """What each experiment of the store cost, by name; or that one alone."""
    with store.reading() as connection:
        stages = recorded_stages(connection)
        measured = throughput(connection, stages)
        names = rows(connection, Experiment, true() if experiment is None else Experiment.name == experiment)
        launches = rows(connection, Launch, true() if experiment is None else Launch.experiment == experiment)
        trials = _trials(connection, experiment, every_form)
    own: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for launch in launches:
        own[launch["experiment"]].append(launch)
    return [
        Cost(row["name"], trials.get(row["name"], []), stages, own[row["name"]], measured) for row in names
    ]


def _trials(connection: Connection, experiment: str | None, every_form: bool) -> dict[str, list[AskedTrial]]:
    """By experiment."""
    reads = select(func.aggregate_strings(TrialStage.stage_key, " ")).where(TrialStage.trial_id == Trial.id)
    columns = (
        Trial.method, Trial.config_id, Trial.data_fingerprint, Trial.dataset, Trial.device, Trial.status,
        Trial.seconds, Trial.attempt, Trial.started_at, Trial.finished_at, Launch.experiment.label("ran_by"),
        Launch.status.label("launch"), Launch.heartbeat_at, Launch.finished_at.label("launch_finished_at"),
    )  # fmt: skip
    found: dict[str, list[AskedTrial]] = {}
    for asked in (ExperimentTrial, EarlierTrial) if every_form else (ExperimentTrial,):
        query = (
            select(asked.experiment, *columns, reads.scalar_subquery().label("reads"))
            .join(Trial, Trial.id == asked.trial_id)
            .outerjoin(Launch, Launch.id == Trial.launch_id)
            .where(true() if experiment is None else asked.experiment == experiment)
            .order_by(Trial.id)
        )
        for row in connection.execute(query):
            found.setdefault(row.experiment, []).append(_asked(row))
    return found


def _asked(row: Any) -> AskedTrial:
    device = device_kind(row.device)
    work = Work("trial", row.method, device, row.config_id, row.data_fingerprint, row.dataset)
    return AskedTrial(
        work=work,
        status=row.status,
        seconds=row.seconds,
        gpus=float(device == "cuda"),
        lost=_lost(row) if row.status in FOR_NOTHING else None,
        attempt=row.attempt,
        here=row.ran_by == row.experiment,
        reads=frozenset((row.reads or "").split()),
    )


def _lost(row: Any) -> float | None:
    """Seconds from the start of the last attempt to its end, or to its launch's last sign of life; None if it
    never started. A launch that is found dead is closed when the next one starts, which may be days later."""
    if row.started_at is None:
        return None
    launch_end = row.heartbeat_at if row.launch == "interrupted" else row.launch_finished_at
    end = min(filter(None, (row.finished_at, launch_end)), default=row.started_at)
    taken = datetime.fromisoformat(end) - datetime.fromisoformat(row.started_at)
    return max(taken.total_seconds(), 0.0)


def _within(stage: RecordedStage, launch: Mapping[str, Any]) -> bool:
    """Whether the stage was made while the launch ran."""
    made = stage.created_at[:SECOND]
    ended = launch["finished_at"] or made
    return bool(launch["started_at"][:SECOND] <= made <= ended[:SECOND])
