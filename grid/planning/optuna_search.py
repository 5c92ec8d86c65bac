"""Optuna's TPE over the spaces of a spec. Its memory is the results store, so it resumes by itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from components.identity import canonical, configuration
from components.method import Method
from grid.planning.plan import Plan, PlannedTrial
from grid.spec.search import configurations_of, identity, spaces
from grid.spec.space import Space

BLOCK = "methods"
MAX_REPEATS = 100  # proposals in a row that are known already: then the space is taken as exhausted

ValueOf = Callable[[Sequence[PlannedTrial]], float | None]
Enter = Callable[[Sequence[PlannedTrial]], None]
Finished = Sequence[tuple[str, Mapping[str, Any]]]  # (method, full configuration) of trials in the store


class OptunaProposals:
    """A configuration at a time, with all its seeds and data sets as one group.

    value_of(group): mean of the metric if all of the group is done, else None; enter(group): the group now
    belongs to the experiment; finished: what the experiment holds already, told to the sampler first and
    counted in the budget.
    """

    def __init__(self, plan: Plan, finished: Finished, value_of: ValueOf, enter: Enter) -> None:
        search = plan.spec.search
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._plan, self._value_of, self._enter = plan, value_of, enter
        self._spaces = spaces(plan.spec, plan.datasets[0].card)
        direction = "maximize" if search.mode == "max" else "minimize"
        sampler = optuna.samplers.TPESampler(seed=search.seed, constant_liar=True)
        self._study = optuna.create_study(direction=direction, sampler=sampler)
        self._asked: dict[str, Trial] = {}
        self._known: set[str] = set()
        self._left = configurations_of(plan.spec)
        for name, config in finished:
            self._recall(name, config)

    def next(self) -> list[PlannedTrial] | None:
        """The trials of a configuration that the experiment does not have yet."""
        for _ in range(MAX_REPEATS):
            if self._left <= 0:
                return None
            trial = self._study.ask()
            method = self._suggest(trial)
            name = identity(method)
            group = self._group(method)
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
        """The group has ended; a failed one is told as failed."""
        trial = self._asked.pop(group[0].id, None)
        if trial is not None:
            self._answer(trial, group)

    def _answer(self, trial: Trial, group: Sequence[PlannedTrial]) -> None:
        value = self._value_of(group)
        if value is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def _group(self, method: Method) -> list[PlannedTrial]:
        planner, spec = self._plan.planner, self._plan.spec
        return [planner.trial(method, d, seed) for d in self._plan.datasets for seed in spec.seeds]

    def _suggest(self, trial: Trial) -> Method:
        blocks = list(range(len(self._spaces)))
        space = self._spaces[trial.suggest_categorical(BLOCK, blocks)]
        values = {
            name: _chosen(space, name, _asked(trial, _parameter(space, name), distribution))
            for name, distribution in _distributions(space).items()
        }
        method: Method = space.build({**space.fixed, **values})
        return method

    def _recall(self, name: str, config: Mapping[str, Any]) -> None:
        """Tells the sampler of a configuration in the store, if the space has it and it is finished."""
        for space in self._spaces:
            values = _values(space, config) if space.method == name else None
            if values is None:
                continue
            method = space.build({**space.fixed, **{k: _chosen(space, k, v) for k, v in values.items()}})
            if canonical(configuration(method)) != canonical(config) or identity(method) in self._known:
                continue
            value = self._value_of(self._group(method))
            if value is not None:
                self._known.add(identity(method))
                self._left -= 1
                self._study.add_trial(self._finished(space, values, value))
            return

    def _finished(self, space: Space, values: dict[str, Any], value: float) -> FrozenTrial:
        distributions: dict[str, BaseDistribution] = {
            _parameter(space, name): distribution for name, distribution in _distributions(space).items()
        }
        distributions[BLOCK] = CategoricalDistribution(list(range(len(self._spaces))))
        params = {_parameter(space, name): chosen for name, chosen in values.items()}
        params[BLOCK] = self._spaces.index(space)
        return create_trial(params=params, distributions=distributions, value=value)


def _parameter(space: Space, name: str) -> str:
    """A knob of one block is a parameter of its own: spaces are conditional on the block."""
    return f"{space.where}.{name}"


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """A choice is the position in its list, since its items may be mappings."""
    found: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(list(range(len(values)))) for name, values in space.choices.items()
    }
    for name, ends in space.ranges.items():
        if ends.integer:
            found[name] = IntDistribution(int(ends.low), int(ends.high), log=ends.log)
        else:
            found[name] = FloatDistribution(ends.low, ends.high, log=ends.log)
    return found


def _asked(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _chosen(space: Space, name: str, value: Any) -> Any:
    return space.choices[name][value] if name in space.choices else value


def _values(space: Space, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters that give this configuration in this block; None if it has none."""
    values: dict[str, Any] = {}
    first = space.first()
    for name, choices in space.choices.items():
        built = [configuration(space.build({**first, name: choice}))[name] for choice in choices]
        wanted = canonical(config.get(name))
        if wanted not in [canonical(value) for value in built]:
            return None
        values[name] = [canonical(value) for value in built].index(wanted)
    for name, ends in space.ranges.items():
        if not isinstance(config.get(name), int | float) or not ends.low <= config[name] <= ends.high:
            return None
        values[name] = config[name]
    return values
