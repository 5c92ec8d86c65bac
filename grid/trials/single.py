"""`python -m grid trial`: one trial in this process."""

from typing import Any

from grid.planning.plan import Plan, by_sort
from grid.planning.planned import PlannedTrial
from grid.refused import Refused
from grid.stores.artifacts import ArtifactStore
from grid.trials.trial import TrialTask, run_trial

BY_HAND = 0  # the attempt's number: no launch ever uses it


def run_single(plan: Plan, prefix: str, store: ArtifactStore) -> dict[str, Any]:
    """Runs the one trial whose id starts with `prefix`; returns its report.

    Raises LookupError if there is not exactly one, or if one of its stages is not in the store; Refused if
    one is broken.
    """
    found = [trial for trial in plan.trials if trial.id.startswith(prefix)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} trials of {plan.spec.name} start with {prefix!r}")
    (trial,) = found
    if broken := [plan.broken[key] for key in trial.closure if key in plan.broken]:
        raise Refused("; ".join(broken))
    missing = sorted({plan.stages[k].stage.kind for k in trial.closure if k not in plan.cached})
    if missing:
        raise LookupError(f"trial {trial.id}: stages not there yet: {', '.join(missing)}; run the spec")
    use_threads(plan.spec.resources.method(trial.method_name).num_cpus)
    return run_trial(task_of(plan, trial, BY_HAND), trial.dataset, store)


def use_threads(num_cpus: float) -> None:
    """Sets torch's threads: sums depend on how they are split, and a trial gives the same numbers wherever
    it runs."""
    import torch

    torch.set_num_threads(max(1, int(num_cpus)))


def task_of(plan: Plan, trial: PlannedTrial, attempt: int) -> TrialTask:
    """What a worker is told of this attempt."""
    columns, tensors = by_sort(trial.stages, plan.stages)
    return TrialTask(
        id=trial.id,
        attempt=attempt,
        method=trial.method,
        data_fingerprint=trial.dataset.fingerprint or "",
        seed=trial.seed,
        columns=columns,
        tensors=tensors,
        on_failed=plan.spec.on_failed,
    )
