"""Optuna over the trees of a spec. Its memory is the results store, so it resumes by itself."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, TrialState, create_trial

from grid.planning.goals import Measured
from grid.planning.plan import Plan
from grid.planning.planned import PlannedTrial
from grid.planning.present_form import Recalled
from grid.spec.block import Block, Candidate
from grid.spec.candidates import blocks, configurations_of
from grid.spec.search import Search
from grid.spec.space import Chooser, Range

BLOCK = "methods"
EMPTY: Mapping[int, float] = {}
DRAWS_THE_REST = ("gp", "qmc")  # at random, what not every trial has, and of qmc every choice
MAX_REPEATS = 100  # proposals in a row that are known already: then the space is taken as exhausted

ValueOf = Callable[[Sequence[PlannedTrial]], Measured | None]
Enter = Callable[[Sequence[PlannedTrial]], None]
StoppedAt = Callable[[Sequence[PlannedTrial]], Mapping[int, float] | None]


class OptunaProposals:
    """A configuration at a time, with all its seeds and data sets as one group.

    value_of(group): what is measured of it if all of the group is done, else None; enter(group): the group
    now belongs to the experiment; stopped_at(group): None if none of it was stopped early, else the metric by
    steps done, as far as it is known: such a group is told as pruned. What the experiment holds already and
    the plan has recalled is told to the sampler first, and counted in the budget; before that, uncounted,
    what other experiments measured (`warm`).
    """

    def __init__(
        self,
        plan: Plan,
        value_of: ValueOf,
        enter: Enter,
        stopped_at: StoppedAt = lambda group: None,
        warm: Sequence[tuple[Recalled, Measured]] = (),
    ) -> None:
        search = plan.spec.search
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._plan, self._value_of, self._enter, self._stopped_at = plan, value_of, enter, stopped_at
        self._blocks = blocks(plan.spec, plan.datasets[0].card)
        directions = ["maximize" if mode == "max" else "minimize" for mode in search.modes]
        self._study = optuna.create_study(directions=directions, sampler=sampler_of(search))
        self._asked: dict[str, Trial] = {}
        self._known: set[str] = set()
        self._left = configurations_of(plan.spec)
        for known, found in warm:
            self._add(known, TrialState.COMPLETE, found)
        for known, group in zip(plan.recalled, plan.groups, strict=True):
            self._recall(known, group)

    def next(self) -> list[PlannedTrial] | None:
        """The trials of a configuration that the experiment does not have yet."""
        for _ in range(MAX_REPEATS + len(self._known)):  # some samplers begin anew with each launch
            if self._left <= 0:
                return None
            trial = self._study.ask()
            candidate = self._suggest(trial)
            name = candidate.identity
            group = self._group(candidate)
            new = name not in self._known
            if new:
                self._known.add(name)
                self._left -= 1
                self._enter(group)
            if new and self._value_of(group) is None:
                self._asked[group[0].id] = trial
                return group
            self._answer(trial, group)  # a repeated proposal, or another experiment has it: from SQL
        return None

    def tell(self, group: Sequence[PlannedTrial]) -> None:
        """The group has ended; a failed one is told as failed, one that was stopped early as pruned."""
        trial = self._asked.pop(group[0].id, None)
        if trial is not None:
            self._answer(trial, group)

    def _answer(self, trial: Trial, group: Sequence[PlannedTrial]) -> None:
        found, stopped = self._value_of(group), self._intermediate(group)
        if found is not None:
            for name, excess in found.excess.items():
                trial.set_constraint(name, excess)
            self._study.tell(trial, found.goals)
            return
        for step, at_step in (stopped or {}).items():
            trial.report(at_step, step)
        self._study.tell(trial, state=TrialState.FAIL if stopped is None else TrialState.PRUNED)

    def _intermediate(self, group: Sequence[PlannedTrial]) -> Mapping[int, float] | None:
        """None if none of the group was stopped early; with several goals Optuna knows no pruned trial."""
        return self._stopped_at(group) if len(self._study.directions) == 1 else None

    def _group(self, candidate: Candidate) -> list[PlannedTrial]:
        return list(self._plan.planner.group(candidate, self._plan.datasets, self._plan.spec.seeds))

    def _suggest(self, trial: Trial) -> Candidate:
        nth: int = trial.suggest_categorical(BLOCK, list(range(len(self._blocks))))
        return self._blocks[nth].at(_Suggested(trial, self._blocks[nth]))

    def _recall(self, known: Recalled, group: Sequence[PlannedTrial]) -> None:
        """Tells the sampler of a configuration whose trials have all ended well; one that lacks some is the
        next to be proposed."""
        if not self._plan.has_ended(group):
            self._study.enqueue_trial(self._told(known)[0])
            return
        self._known.add(known.candidate.identity)
        self._left -= 1
        found, stopped = self._value_of(group), self._intermediate(group)
        ended = TrialState.FAIL if stopped is None else TrialState.PRUNED
        self._add(known, ended if found is None else TrialState.COMPLETE, found, stopped or {})

    def _told(self, known: Recalled) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Parameters of a configuration, and what the sampler would have drawn each from."""
        told = _Told(known.block, known.at)
        known.block.at(told)
        nth = self._blocks.index(known.block)
        return {BLOCK: nth, **told.params}, {BLOCK: _positions(len(self._blocks)), **told.distributions}

    def _add(
        self, known: Recalled, state: TrialState, found: Measured | None, steps: Mapping[int, float] = EMPTY
    ) -> None:
        params, distributions = self._told(known)
        self._study.add_trial(
            create_trial(
                state=state,
                params=params,
                distributions=distributions,
                values=None if found is None else found.goals,
                constraints=dict(found.excess) if found is not None and found.excess else None,
                intermediate_values=dict(steps),
            )
        )


def sampler_of(search: Search) -> optuna.samplers.BaseSampler:
    """The sampler that a search names, with its seed."""
    kinds = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "qmc": optuna.samplers.QMCSampler,
        "random": optuna.samplers.RandomSampler,
        "nsga2": optuna.samplers.NSGAIISampler,
    }
    options = dict(search.sampler.options)
    if search.sampler.name in DRAWS_THE_REST:
        options["warn_independent_sampling"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = kinds[search.sampler.name](seed=search.seed, **options)
    return sampler


class _Suggested:
    """Chooses what the sampler suggests. A place of one block is a parameter of its own, and so is one below
    an option: spaces are conditional."""

    def __init__(self, trial: Trial, block: Block) -> None:
        self._trial, self._block = trial, block

    def option(self, place: str, n: int) -> int:
        """The position in a list, since its items may be records."""
        return int(self._trial.suggest_categorical(_parameter(self._block, place), list(range(n))))

    def number(self, place: str, ends: Range) -> float | int:
        """A number of the range."""
        name, (low, high) = _parameter(self._block, place), ends.ends()
        if ends.integer:
            whole: int = self._trial.suggest_int(name, int(low), int(high), log=ends.log)
            return whole
        real: float = self._trial.suggest_float(name, low, high, log=ends.log)
        return real


class _Told:
    """Chooses as another does, and keeps that as the sampler would have suggested it."""

    def __init__(self, block: Block, chooser: Chooser) -> None:
        self._block, self._chooser = block, chooser
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def option(self, place: str, n: int) -> int:
        """As the other does."""
        return int(self._kept(place, self._chooser.option(place, n), _positions(n)))

    def number(self, place: str, ends: Range) -> float | int:
        """As the other does."""
        low, high = ends.ends()
        whole = IntDistribution(int(low), int(high), log=ends.log)
        kind = whole if ends.integer else FloatDistribution(low, high, log=ends.log)
        return self._kept(place, self._chooser.number(place, ends), kind)

    def _kept(self, place: str, value: float | int, distribution: BaseDistribution) -> float | int:
        name = _parameter(self._block, place)
        self.params[name], self.distributions[name] = value, distribution
        return value


def _parameter(block: Block, place: str) -> str:
    return f"{block.where}.{place}"


def _positions(n: int) -> CategoricalDistribution:
    return CategoricalDistribution(list(range(n)))
