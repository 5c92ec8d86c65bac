"""The stages of a plan that are missing, run in order on the cluster."""

import gc
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from components.stage import TensorStage
from grid.planning.plan import Plan
from grid.planning.planned import PlannedStage, PlannedTrial
from grid.progress import Display, Task
from grid.results.store import ResultsStore
from grid.spec.spec import StageResources
from grid.stages.pipeline import StageFailed, finish_tensor_stage, run_column_stages, start_tensor_stage
from grid.stores.artifacts import ArtifactStore

POLL_SECONDS = 0.5
TOGETHER = 100_000  # images of the stages that share a pipeline: with more, its start costs nothing


def run_stages(
    plan: Plan,
    trials: Sequence[PlannedTrial],
    store: ArtifactStore,
    results: ResultsStore,
    cluster: Mapping[str, float],
    display: Display,
) -> dict[str, str]:
    """Runs what these trials lack, in order, and goes on past failures; returns reason by failed key.

    A stage whose input failed fails with it.
    """
    failed: dict[str, str] = {}
    alone: set[str] = set()  # stages of a pipeline that broke: by whichever of them
    waiting = plan.needed_stages(trials)
    while waiting:
        for stage in [s for s in waiting if any(key in failed for key in s.inputs.values())]:
            failed[stage.key] = next(failed[key] for key in stage.inputs.values() if key in failed)
        waiting = [stage for stage in waiting if stage.key not in failed]
        pending = {stage.key for stage in waiting}
        ready = [s for s in waiting if not pending.intersection(s.inputs.values())]
        tensors = [stage for stage in ready if isinstance(stage.stage, TensorStage)]
        if tensors:
            failed |= _run_tensor_stages(plan, tensors, store, results, display)
            ended = {stage.key for stage in tensors}
        elif ready:
            group = _of_one_pipeline(plan, ready, alone)
            outcome = _run_column_stages(plan, group, store, results, cluster, display)
            failed |= {key: reason for key, reason in outcome.items() if reason}
            ended = set(outcome)
            alone |= {stage.key for stage in group}
        waiting = [stage for stage in waiting if stage.key not in ended]
    return failed


def _run_tensor_stages(
    plan: Plan,
    stages: Sequence[PlannedStage],
    store: ArtifactStore,
    results: ResultsStore,
    display: Display,
) -> dict[str, str]:
    """All at once: the cluster runs as many as it has room for."""
    resources = {s.key: plan.spec.resources.stage(s.stage.kind) for s in stages}
    running = {start_tensor_stage(s, plan.stages, store, resources[s.key]): s for s in stages}
    task = display.task(_called(stages), len(stages), "stages")
    failed: dict[str, str] = {}
    while running:
        finished, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        for reference in finished:
            stage = running.pop(reference)
            try:
                seconds, history = ray.get(reference)
            except ray.exceptions.RayError as error:
                failed[stage.key] = f"stage {stage.stage.kind}: {_last_line(error)}"
                display.say(failed[stage.key])
                continue
            used = resources[stage.key]
            results.record_stage(finish_tensor_stage(stage, store, used, seconds, history))
        task.update(len(stages) - len(running), _steps(store, running.values()))
    task.finish(f"{len(stages) - len(failed)} done in {task.seconds:.1f} s")
    return failed


def _called(stages: Sequence[PlannedStage]) -> str:
    kinds = sorted({stage.stage.kind for stage in stages})
    return f"stage {', '.join(kinds)}"


def _steps(store: ArtifactStore, running: Any) -> str:
    """What the running tensor stages last reported."""
    notes = [store.progress(stage.key) for stage in running]
    shown = [" ".join(f"{name}={value:.3g}" for name, value in note.items()) for note in notes if note]
    return "; ".join(shown[:2])


def _of_one_pipeline(plan: Plan, ready: Sequence[PlannedStage], alone: set[str]) -> list[PlannedStage]:
    """The first stage, and those that want the same replicas, up to TOGETHER images in all: their paths lie
    in memory at once."""
    first, *others = ready
    group, images = [first], first.images
    for stage in others:
        if _replicas_of(plan, stage) != _replicas_of(plan, first):
            continue
        images += stage.images
        if images > TOGETHER or {first.key, stage.key} & alone:
            break
        group.append(stage)
    return group


def _replicas_of(plan: Plan, stage: PlannedStage) -> StageResources:
    return plan.spec.resources.stage(stage.stage.kind).model_copy(update={"batch_size": None})


def _run_column_stages(
    plan: Plan,
    group: Sequence[PlannedStage],
    store: ArtifactStore,
    results: ResultsStore,
    cluster: Mapping[str, float],
    display: Display,
) -> dict[str, str]:
    """Runs these in one pipeline; returns, by key, why each that ended failed, or an empty text."""
    ended: dict[str, str] = {}
    shown: dict[str, Task] = {}

    def task_of(stage: PlannedStage) -> Task:
        assert stage.dataset is not None
        if stage.key not in shown:
            what = f"stage {stage.stage.kind} of {stage.dataset.label}"
            shown[stage.key] = display.task(what, stage.images, "images")
        return shown[stage.key]

    def end(stage: PlannedStage, failed: str) -> None:
        ended[stage.key] = f"stage {stage.stage.kind}: {failed}"
        task_of(stage).finish(f"failed: {failed}")

    task_of(group[0])
    outcomes = run_column_stages(
        group,
        plan.stages,
        store,
        plan.spec.resources.stage,
        cluster,
        plan.spec.max_failed_fraction,
        lambda stage, done: task_of(stage).update(done),
    )
    try:
        for stage, outcome in outcomes:
            if isinstance(outcome, StageFailed):
                end(stage, _last_line(outcome))
                continue
            results.record_stage(outcome)
            ended[stage.key] = ""
            task_of(stage).finish(_summary(outcome))
    except ray.exceptions.RayError as error:
        if len(group) == 1:
            end(group[0], _last_line(error))
    if len(ended) < len(group) or any(ended.values()):
        for stage in group:
            if stage.key in shown and stage.key not in ended:
                task_of(stage).finish("its pipeline broke, and it goes on in another one")
        del outcomes
        gc.collect()  # the failed pipeline lies in a cycle, and its actors would go on holding their CPUs
    return ended


def _summary(manifest: Mapping[str, Any]) -> str:
    computed, seconds = manifest["images_computed"], manifest["seconds"]
    parts = [f"{computed} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.0f} images/s"]
    if manifest["images_resumed"]:
        parts.append(f"{manifest['images_resumed']} were there")
    if manifest["found"]:
        parts.append(manifest["found"])
    if manifest["smallest_device_batch"] < manifest["batch_size"]:
        parts.append(
            f"out of memory: batch {manifest['batch_size']} became {manifest['smallest_device_batch']}"
        )
    if manifest["failed"]:
        reason = next(iter(manifest["failures"].values()))
        parts.append(f"{manifest['failed']} FAILED ({reason})")
    return ", ".join(parts)


def _last_line(error: Exception) -> str:
    """What was raised in the worker, without tracebacks, Ray's own words and the module of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"(\w+\.)*[A-Z]\w+: ", line) and not line.startswith("ray.")]
    if not raised:
        return lines[-1] if lines else type(error).__name__
    return re.sub(r"^(\w+\.)+", "", raised[-1])
