"""The plan: spec x artifact store x results store -> what is to do. Runs nothing, loads no model."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from components.data.card import MissingVocabulary
from components.data.fingerprint import FileHashes
from components.identity import component_name, configuration, digest
from components.models.weights.checkpoints import MissingWeights, checkpoint_files, find_checkpoint
from components.models.weights.precision import with_precision
from components.stage import ColumnStage, Stage
from grid.inputs.datasets import Dataset
from grid.inputs.weights import missing, problem
from grid.planning.goals import Warm
from grid.planning.planned import UNRESOLVED, PlannedStage, PlannedTrial
from grid.planning.present_form import Recalled, recalled
from grid.results.entry import shown_values
from grid.results.throughput import Estimate, Throughput
from grid.spec.block import Candidate
from grid.spec.candidates import Candidates, blocks, candidates, configurations_of
from grid.spec.spec import Resources, Spec

ENDED = ("done", "stopped")
TO_GO_ON = "to go on"


@dataclass(frozen=True)
class Plan:
    """All distinct stages in an order that respects their inputs, and all trials.

    With Optuna the trials come during the run: `budget` is their number, and `trials` holds one for each
    combination of choices that changes a stage, so that `stages` is complete. statuses: of trials that the
    results store knows; throughput: of what was measured before; entered: ids of the trials that any form of
    the experiment asked for; recalled: with Optuna, the configurations among them that the present spec could
    propose, the oldest first, as many as its budget pays for, and groups: the trials that it asks for of
    each; warm: what other experiments have measured, where the search asks for it. Trials that were stopped
    early are "stopped" among the statuses, or TO_GO_ON if the present spec would not have stopped them then.
    broken: what is wrong with artifacts that trials to run would read, by key; they are not cached.
    """

    spec: Spec
    datasets: tuple[Dataset, ...]
    stages: Mapping[str, PlannedStage]
    trials: tuple[PlannedTrial, ...]
    cached: frozenset[str]
    statuses: Mapping[str, str]
    budget: int
    throughput: Throughput
    entered: frozenset[str]
    recalled: tuple[Recalled, ...]
    groups: tuple[tuple[PlannedTrial, ...], ...]
    planner: "Planner" = field(repr=False)
    warm: tuple[Warm, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether the trials come during the run."""
        return self.spec.search.kind == "optuna"

    @property
    def asked(self) -> list[PlannedTrial]:
        """The trials that the present spec asks for and that are known before it runs."""
        return [trial for group in self.groups for trial in group] if self.searches else list(self.trials)

    @property
    def earlier(self) -> frozenset[str]:
        """Ids of the trials that only an earlier form of the experiment asked for."""
        return self.entered - {trial.id for trial in self.asked}

    @property
    def done(self) -> int:
        """Trials of the present spec that the results store already holds."""
        return sum(self.statuses.get(trial.id) == "done" for trial in self.asked)

    @property
    def stopped(self) -> int:
        """Trials of the present spec that were stopped early, and stay so."""
        return sum(self.statuses.get(trial.id) == "stopped" for trial in self.asked)

    @property
    def to_go_on(self) -> list[str]:
        """Ids of the trials that were stopped early, where the present spec would not have stopped them."""
        return [trial.id for trial in self.asked if self.statuses.get(trial.id) == TO_GO_ON]

    @property
    def never_stopped(self) -> dict[str, int]:
        """How many of `trials` the scheduler cannot stop, by method; none without one."""
        watched = self.spec.search.watched
        cannot = (t for t in self.trials if watched and not t.method.can_be_stopped_by(watched.metric))
        return dict(Counter(trial.method_name for trial in cannot))

    @property
    def left(self) -> int:
        """Trials of the present spec that are to run."""
        return self.budget - self.done - self.stopped

    def has_ended(self, group: Sequence[PlannedTrial]) -> bool:
        """Whether all these trials were done or stopped early when the plan was made."""
        return all(self.statuses.get(trial.id) in ENDED for trial in group)

    @property
    def warm_from(self) -> list[str]:
        """The experiments that the search is told of."""
        return sorted({name for one in self.warm for name in one.experiments})

    @cached_property
    def unresolved(self) -> tuple[str, ...]:
        """What is missing, each named once."""
        data = [dataset.missing for dataset in self.datasets if dataset.missing]
        of_stages = [name for stage in self.stages.values() for name in stage.unresolved]
        of_trials = [name for trial in self.trials for name in trial.unresolved]
        return tuple(dict.fromkeys([*data, *of_stages, *of_trials]))

    @property
    def to_run(self) -> list[PlannedTrial]:
        """Trials that have not ended; with Optuna, all that stand for the stages."""
        if self.searches:
            return list(self.trials) if self.left > 0 else []
        return [trial for trial in self.trials if self.statuses.get(trial.id) not in ENDED]

    def without(self, broken: Mapping[str, str]) -> "Plan":
        """The plan in which these artifacts, of which it is said what is wrong, are to be computed again."""
        return replace(self, cached=self.cached - set(broken), broken=broken)

    def needed_stages(self, trials: Sequence[PlannedTrial]) -> list[PlannedStage]:
        """Stages without an artifact that these trials read, in order."""
        needed = {key for trial in trials for key in trial.closure}
        return [s for key, s in self.stages.items() if key in needed and key not in self.cached]

    @property
    def sharing_factor(self) -> float:
        """Stage runs that a grid without sharing would pay, by the stage runs that are paid."""
        if not self.trials:
            return 1.0
        naive = self.budget * sum(len(t.closure) for t in self.trials) / len(self.trials)
        return naive / len(self.stages)

    @property
    def stage_seconds(self) -> Estimate:
        """Of the stages that are missing; those whose images are not there yet take none."""
        of, stages = self.spec.resources.stage, self.needed_stages(self.to_run)
        return self.throughput.estimate(stage.work(of(stage.stage.kind).device) for stage in stages)

    @property
    def trial_seconds(self) -> Estimate:
        """Of the trials to run themselves; with Optuna as if each of `trials` came equally often."""
        of, trials = self.spec.resources.method, self.to_run
        each = self.left / max(len(trials), 1)
        return self.throughput.estimate((trial.work(of(trial.method_name).device), each) for trial in trials)

    def as_json(self) -> dict[str, Any]:
        """The plan for programs. model_passes: images that models still have to read, over all stages."""
        todo = self.needed_stages(self.to_run)
        by_method = {trial.method_name: trial for trial in self.trials}
        stages, trials = self.stage_seconds, self.trial_seconds
        return {
            "experiment": self.spec.name,
            "trials": self.budget,
            "done": self.done,
            "stopped": self.stopped,
            "to_run": self.left,
            "to_go_on": len(self.to_go_on),
            "never_stopped": self.never_stopped,
            "earlier_form": len(self.earlier),
            "distinct_stages": len(self.stages),
            "cached_stages": len(self.cached),
            "broken_stages": len(self.broken),
            **self._warm_json(),
            "sharing_factor": round(self.sharing_factor, 2),
            "model_passes": sum(stage.model_passes for stage in todo),
            "estimated_seconds": {"stages": stages.seconds, "trials": trials.seconds},
            "not_measured": [*stages.not_measured, *trials.not_measured],
            "unresolved": list(self.unresolved),
            "notes": {dataset.label: dataset.note for dataset in self.datasets},
            "group_sizes": {
                dataset.label: {} if dataset.index is None else dataset.index.group_sizes()
                for dataset in self.datasets
            },
            "defaults": {name: shown_values(trial.defaults()) for name, trial in by_method.items()},
            "stages": [self._stage_json(stage) for stage in self.stages.values()],
        }

    def _warm_json(self) -> dict[str, Any]:
        if not self.spec.search.warm_start:
            return {}
        return {"warm_start": {"configurations": len(self.warm), "experiments": self.warm_from}}

    def _stage_json(self, stage: PlannedStage) -> dict[str, Any]:
        return {
            "key": stage.key,
            "kind": stage.stage.kind,
            "dataset": stage.dataset.label if stage.dataset else None,
            "images": stage.images,
            "cached": stage.key in self.cached,
            "broken": self.broken.get(stage.key),
            "readers": sum(stage.key in trial.closure for trial in self.trials),
            "unresolved": list(stage.unresolved),
        }


def by_sort(
    keys: Mapping[str, str], stages: Mapping[str, PlannedStage]
) -> tuple[dict[str, str], dict[str, str]]:
    """Keys by name, parted in those of column stages and those of tensor stages."""
    columns = {name: key for name, key in keys.items() if isinstance(stages[key].stage, ColumnStage)}
    return columns, {name: key for name, key in keys.items() if name not in columns}


class Planner:
    """Makes keys and identities; remembers the hash of every checkpoint and the key of every stage."""

    def __init__(self, hashes: FileHashes, on_failed: str, resources: Resources) -> None:
        self._hashes = hashes
        self._resources = resources
        self._on_failed = on_failed
        self._weights: dict[str, tuple[str | None, str]] = {}
        self.stages: dict[str, PlannedStage] = {}

    def trial(self, candidate: Candidate, dataset: Dataset, seed: int) -> PlannedTrial:
        """The trial, with its stages entered into `stages`."""
        method = candidate.method
        named = method.stages(dataset.card, seed)
        planned = {name: self.stage(stage, dataset) for name, stage in named.items()}
        keys = {name: stage.key for name, stage in planned.items()}
        config = configuration(method)
        closure = frozenset(key for stage in planned.values() for key in self._closure(stage))
        missing: list[str] = []
        models = {
            name: self._resolve(configuration(model), missing)
            for name, model in method.models(dataset.card).items()
        }
        identity = {
            "method": component_name(method),
            "version": type(method).VERSION,
            "config": config,
            "data": dataset.fingerprint or f"{UNRESOLVED} {dataset.label}",
            "stages": keys,
            "seed": seed,
        }
        if models:
            identity["models"] = models
        if self._on_failed != "wrong":  # other numbers, so another trial
            identity["on_failed"] = self._on_failed
        unresolved = tuple(dict.fromkeys(missing))
        return PlannedTrial(digest(identity), candidate, dataset, seed, config, keys, closure, unresolved)

    def group(
        self, candidate: Candidate, datasets: Sequence[Dataset], seeds: Sequence[int]
    ) -> tuple[PlannedTrial, ...]:
        """The trials of one configuration on all data sets with all seeds."""
        return tuple(self.trial(candidate, dataset, seed) for dataset in datasets for seed in seeds)

    def stage(self, stage: Stage, dataset: Dataset) -> PlannedStage:
        """The planned stage over this data set, after everything that it reads; its models' precision is
        that of the device which its resources name."""
        stage = with_precision(stage, self._resources.stage(stage.kind).device)
        inputs = {name: self.stage(value, dataset) for name, value in stage.inputs().items()}
        missing: list[str] = [name for value in inputs.values() for name in value.unresolved]
        data = None
        if stage.READS_IMAGES:
            data = dataset.fingerprint or f"{UNRESOLVED} {dataset.label}"
            missing += [] if dataset.fingerprint else [dataset.missing]
        identity = {
            "kind": stage.kind,
            "version": type(stage).VERSION,
            "parameters": self._parameters(stage, missing),
            "inputs": {name: value.key for name, value in inputs.items()},
            "data": data,
        }
        planned = PlannedStage(
            key=digest(identity),
            stage=stage,
            dataset=dataset if stage.READS_IMAGES else None,
            inputs={name: value.key for name, value in inputs.items()},
            identity=identity,
            unresolved=tuple(dict.fromkeys(missing)),
        )
        return self.stages.setdefault(planned.key, planned)

    def _closure(self, stage: PlannedStage) -> Iterator[str]:
        yield stage.key
        for key in stage.inputs.values():
            yield from self._closure(self.stages[key])

    def _parameters(self, stage: Stage, missing: list[str]) -> dict[str, Any]:
        """The stage's own parameters, with checkpoints as the hash of their content."""
        own = {k: v for k, v in configuration(stage).items() if k not in stage.inputs()}
        for name in own:
            value = getattr(stage, name)
            if isinstance(value, MissingVocabulary):
                missing.append(value.problem)
                own[name] = f"{UNRESOLVED} {value.problem}"
        return {name: self._resolve(value, missing) for name, value in own.items()}

    def _resolve(self, value: Any, missing: list[str]) -> Any:
        if isinstance(value, list):
            return [self._resolve(inner, missing) for inner in value]
        if not isinstance(value, Mapping):
            return value
        resolved = {name: self._resolve(inner, missing) for name, inner in value.items()}
        if isinstance(value.get("checkpoint"), str):
            resolved["checkpoint"] = self._content(value["checkpoint"], missing)
        return resolved

    def _content(self, checkpoint: str, missing: list[str]) -> str:
        if checkpoint not in self._weights:
            self._weights[checkpoint] = self._hash(checkpoint)
        content, wrong = self._weights[checkpoint]
        if wrong:
            missing.append(wrong)
        return content or f"{UNRESOLVED} {checkpoint}"

    def _hash(self, checkpoint: str) -> tuple[str | None, str]:
        """The content of a checkpoint as a hash, or None and what is wrong with it."""
        try:
            path = find_checkpoint(checkpoint)
        except MissingWeights as error:
            return None, missing(checkpoint, error)
        found = {file: self._hashes.of(file) for file in checkpoint_files(path)}
        wrong = problem(checkpoint, path, found)
        return (None, wrong) if wrong else (digest({file.name: found[file] for file in found}), "")


def make_plan(
    spec: Spec,
    datasets: Sequence[Dataset],
    hashes: FileHashes,
    has_artifact: Callable[[str], bool],
    statuses: Callable[[list[str]], Mapping[str, str]],
    throughput: Throughput,
    entered: Sequence[tuple[str, str, Mapping[str, Any]]],
) -> Plan:
    """The plan. has_artifact and statuses are how the stores are asked; entered: id, method and full
    configuration of the trials that any form of the experiment asked for, the oldest first."""
    planner = Planner(hashes, spec.on_failed, spec.resources)
    found: Candidates = candidates(spec, datasets[0].card)
    trials: dict[str, PlannedTrial] = {}
    for dataset in datasets:
        for candidate in found.distinct:
            for seed in spec.seeds:
                trial = planner.trial(candidate, dataset, seed)
                trials.setdefault(trial.id, trial)
    known: tuple[Recalled, ...] = ()
    if spec.search.kind == "optuna":  # as many as its budget pays for
        earlier = recalled(blocks(spec, datasets[0].card), [one[1:] for one in entered])
        known = tuple(itertools.islice(earlier, configurations_of(spec)))
    groups = tuple(planner.group(one.candidate, datasets, spec.seeds) for one in known)
    hashes.save()
    resolved = [key for key, stage in planner.stages.items() if not stage.unresolved]
    return Plan(
        spec=spec,
        datasets=tuple(datasets),
        stages=planner.stages,
        trials=tuple(trials.values()),
        cached=frozenset(key for key in resolved if has_artifact(key)),
        statuses=statuses([*trials, *(trial.id for group in groups for trial in group)]),
        budget=len(trials) if found.budget is None else found.budget,
        throughput=throughput,
        entered=frozenset(trial_id for trial_id, _, _ in entered),
        recalled=known,
        groups=groups,
        planner=planner,
    )
