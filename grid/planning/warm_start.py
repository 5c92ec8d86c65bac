"""What other experiments in the store have measured of the configurations that a search could propose."""

from collections.abc import Sequence

from sqlalchemy import Connection

from components.identity import canonical_json
from grid.planning.goals import Warm, measured
from grid.planning.plan import Plan, Planner
from grid.planning.present_form import Recalled, recalled
from grid.results import history
from grid.spec.candidates import blocks

Row = tuple[str, int, str]  # id, seed and experiment of a trial


def warm_starts(plan: Plan, planner: Planner, connection: Connection) -> list[Warm]:
    """The configurations with a done trial on every data set of the plan that has all numbers of the search:
    of the same method, code version, weights and data, with whatever seeds. planner: one of its own, for the
    plan's holds the stages that are to be run."""
    methods = [str(block["method"]) for block in plan.spec.methods]
    fingerprints = [data.fingerprint for data in plan.datasets if data.fingerprint]
    if not plan.spec.search.warm_start or len(fingerprints) < len(plan.datasets):
        return []
    rows = history.done_elsewhere(connection, plan.spec.name, methods, fingerprints)
    by_config: dict[str, list[Row]] = {}
    for trial_id, method, config, seed, experiment in rows:
        by_config.setdefault(canonical_json([method, config]), []).append((trial_id, seed, experiment))
    spaces = blocks(plan.spec, plan.datasets[0].card)
    found = (
        _warm(plan, planner, connection, known, by_config[known.candidate.identity])
        for known in recalled(spaces, [(method, config) for _, method, config, *_ in rows])
    )
    own = {known.candidate.identity for known in plan.recalled}
    return [one for one in found if one is not None and one.known.candidate.identity not in own]


def _warm(
    plan: Plan, planner: Planner, connection: Connection, known: Recalled, rows: Sequence[Row]
) -> Warm | None:
    seeds = sorted({seed for _, seed, _ in rows})
    done = {trial_id for trial_id, *_ in rows}
    group = [t for t in planner.group(known.candidate, plan.datasets, seeds) if t.id in done]
    if len({trial.dataset.label for trial in group}) < len(plan.datasets):
        return None
    ids = [trial.id for trial in group]
    numbers = measured(connection, plan.spec.search, ids, len(ids))
    experiments = tuple(dict.fromkeys(experiment for trial_id, _, experiment in rows if trial_id in ids))
    return None if numbers is None else Warm(known, numbers, experiments)
