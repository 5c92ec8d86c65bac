"""From a spec to a plan over real stores, and to what is to be run next."""

from collections.abc import Sequence

from components.data.card import CardError
from grid.inputs.datasets import Dataset
from grid.planning.optuna_search import OptunaProposals
from grid.planning.plan import Plan, make_plan
from grid.planning.planned import PlannedTrial
from grid.planning.proposals import Proposals, Rest
from grid.results import history
from grid.results.throughput import recorded_stages, throughput
from grid.spec.spec import MethodResources, Spec, SpecError
from grid.stores.world import World


def plan_of(spec: Spec, datasets: Sequence[Dataset], world: World) -> Plan:
    """The plan, for which what trials would read is looked through; SpecError if a method cannot be built on
    a data set."""
    with world.results.reading() as connection:
        measured = throughput(connection, recorded_stages(connection))
        entered = history.entered(connection, spec.name)
    try:
        plan = make_plan(
            spec, datasets, world.hashes, world.store.has, world.results.statuses, measured, entered
        )
    except CardError as error:
        raise SpecError(str(error)) from error
    read = {key for trial in plan.to_run for key in trial.closure if not plan.stages[key].unresolved}
    return plan.without({key: wrong for key in sorted(read) for wrong in world.store.problems(key)})


def proposals_of(plan: Plan, runnable: Sequence[PlannedTrial], world: World) -> dict[str, Proposals]:
    """What is to be run, by one method's name for each resource shape."""
    if plan.searches:
        return {_only_method(plan): _optuna(plan, world)}
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
    def value_of(group: Sequence[PlannedTrial]) -> float | None:
        search = plan.spec.search
        with world.results.reading() as connection:
            values = history.metric_values(
                connection, [t.id for t in group], search.metrics[0], "val", search.selection
            )
        return sum(values) / len(values) if len(values) == len(group) else None

    def enter(group: Sequence[PlannedTrial]) -> None:
        world.results.enter(plan.spec.name, [trial.entry() for trial in group])

    return OptunaProposals(plan, value_of, enter)
