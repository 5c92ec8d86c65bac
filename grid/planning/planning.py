"""From a spec to a plan over real stores, and to what is to be run next."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from components.data.card import CardError
from components.identity import rng
from components.method import step_place
from grid.inputs.datasets import Dataset
from grid.planning.goals import Measured, measured
from grid.planning.optuna_search import OptunaProposals
from grid.planning.plan import TO_GO_ON, Plan, Planner, make_plan
from grid.planning.planned import PlannedTrial
from grid.planning.proposals import Proposals, Rest
from grid.planning.warm_start import warm_starts
from grid.results import history
from grid.results.throughput import recorded_stages, throughput
from grid.spec.search import Search
from grid.spec.spec import MethodResources, Spec, SpecError
from grid.stores.world import World


def plan_of(spec: Spec, datasets: Sequence[Dataset], world: World) -> Plan:
    """The plan, for which what trials would read is looked through; SpecError if a method cannot be built on
    a data set."""
    with world.results.reading() as connection:
        rates = throughput(connection, recorded_stages(connection))
        entered = history.entered(connection, spec.name)
    try:
        statuses = partial(_statuses, spec.search, world)
        plan = make_plan(spec, datasets, world.hashes, world.store.has, statuses, rates, entered)
    except CardError as error:
        raise SpecError(str(error)) from error
    if spec.search.warm_start:
        planner = Planner(world.hashes, spec.on_failed, spec.resources)
        with world.results.reading() as connection:
            plan = replace(plan, warm=tuple(warm_starts(plan, planner, connection)))
    read = {key for trial in plan.to_run for key in trial.closure if not plan.stages[key].unresolved}
    return plan.without({key: wrong for key in sorted(read) for wrong in world.store.problems(key)})


def _statuses(search: Search, world: World, trial_ids: list[str]) -> dict[str, str]:
    """The statuses of those that are in the store, with TO_GO_ON where a trial was stopped early by another
    number than the search now goes by, or at a step at which it now stops none."""
    found = world.results.statuses(trial_ids)
    with world.results.reading() as connection:
        stopped = history.stopped(connection, trial_ids)
    going_on = [one for one, how in stopped.items() if not search.stops_at(how.step, how.metric)]
    return {**found, **dict.fromkeys(going_on, TO_GO_ON)}


def curves_of(spec: Spec, world: World) -> list[history.Curve]:
    """What the trials that ended before reported at steps of the number that the scheduler watches."""
    if spec.search.watched is None:
        return []
    with world.results.reading() as connection:
        return history.curves(connection, spec.name, *step_place(spec.search.watched.metric))


def proposals_of(plan: Plan, runnable: Sequence[PlannedTrial], world: World) -> dict[str, Proposals]:
    """What is to be run, by one method's name for each resource shape. With a scheduler, which judges a trial
    by those before it, in an order that the search's seed draws: by ascending merit it would stop none."""
    if plan.searches:
        return {_only_method(plan): _optuna(plan, world)}
    if plan.spec.search.scheduler is not None:
        places = rng(plan.spec.search.seed, "order of trials").permutation(len(plan.trials)).tolist()
        place = {trial.id: place for trial, place in zip(plan.trials, places, strict=True)}
        runnable = sorted(runnable, key=lambda trial: place[trial.id])
    shapes: dict[MethodResources, list[PlannedTrial]] = {}
    for trial in runnable:
        shapes.setdefault(plan.spec.resources.method(trial.method_name), []).append(trial)
    return {trials[0].method_name: Rest(trials) for trials in shapes.values()}


def _only_method(plan: Plan) -> str:
    """The method whose resources an Optuna search uses: all must ask for the same."""
    names = [trial.method_name for trial in plan.trials]
    if len({plan.spec.resources.method(name) for name in names}) > 1:
        raise SpecError("search.kind: optuna needs the same resources for all methods of a spec")
    return names[0]


def _optuna(plan: Plan, world: World) -> OptunaProposals:
    search = plan.spec.search

    def value_of(group: Sequence[PlannedTrial]) -> Measured | None:
        with world.results.reading() as connection:
            return measured(connection, search, [trial.id for trial in group], len(group))

    def stopped_at(group: Sequence[PlannedTrial]) -> dict[int, float] | None:
        with world.results.reading() as connection:
            stopped = list(history.stopped(connection, [t.id for t in group]).values())
        if not stopped:
            return None
        values = [how.value for how in stopped if how.metric == f"val_{search.metrics[0]}"]
        return {min(how.step for how in stopped): sum(values) / len(values)} if values else {}

    def enter(group: Sequence[PlannedTrial]) -> None:
        world.results.enter(plan.spec.name, [trial.entry() for trial in group])

    warm = [(one.known, one.measured) for one in plan.warm]
    return OptunaProposals(plan, value_of, enter, stopped_at, warm)
