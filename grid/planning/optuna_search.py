"""Optuna's TPE over the spaces of a spec. Its memory is the results store, so it resumes by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, TrialState, create_trial

from components.method import Method
from grid.planning.plan import Plan
from grid.planning.planned import PlannedTrial
from grid.planning.present_form import Recalled, chosen
from grid.spec.candidates import configurations_of, identity, spaces
from grid.spec.space import Space

BLOCK = "methods"
MAX_REPEATS = 100  # proposals in a row that are known already: then the space is taken as exhausted

ValueOf = Callable[[Sequence[PlannedTrial]], float | None]
Enter = Callable[[Sequence[PlannedTrial]], None]


class OptunaProposals:
    """A configuration at a time, with all its seeds and data sets as one group.

    value_of(group): mean of the metric if all of the group is done, else None; enter(group): the group now
    belongs to the experiment. What the experiment holds already and the plan has recalled is told to the
    sampler first, and counted in the budget.
    """

    def __init__(self, plan: Plan, value_of: ValueOf, enter: Enter) -> None:
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
        for known, group in zip(plan.recalled, plan.groups, strict=True):
            self._recall(known, group)

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
        return list(self._plan.planner.group(method, self._plan.datasets, self._plan.spec.seeds))

    def _suggest(self, trial: Trial) -> Method:
        blocks = list(range(len(self._spaces)))
        space = self._spaces[trial.suggest_categorical(BLOCK, blocks)]
        values = {
            name: chosen(space, name, _asked(trial, _parameter(space, name), distribution))
            for name, distribution in _distributions(space).items()
        }
        method: Method = space.build({**space.fixed, **values})
        return method

    def _recall(self, known: Recalled, group: Sequence[PlannedTrial]) -> None:
        """Tells the sampler of a configuration whose trials have all ended well; one that lacks some is the
        next to be proposed."""
        params = {_parameter(known.space, name): value for name, value in known.values.items()}
        params[BLOCK] = self._spaces.index(known.space)
        if not self._plan.is_done(group):
            self._study.enqueue_trial(params)
            return
        self._known.add(identity(known.method))
        self._left -= 1
        distributions: dict[str, BaseDistribution] = {
            _parameter(known.space, name): distribution
            for name, distribution in _distributions(known.space).items()
        }
        distributions[BLOCK] = CategoricalDistribution(list(range(len(self._spaces))))
        value = self._value_of(group)
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.add_trial(
            create_trial(state=state, params=params, distributions=distributions, value=value)
        )


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
