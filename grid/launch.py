"""A launch: the stages that are missing, then the trials, on Ray; the results store is the truth."""

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher

from components.stage import TensorStage
from grid.artifacts import ArtifactStore
from grid.datasets import Dataset
from grid.pipeline import (
    StageFailed,
    finish_tensor_stage,
    run_column_stage,
    start_tensor_stage,
)
from grid.plan import Plan, PlannedStage, PlannedTrial
from grid.progress import Display, Task
from grid.proposals import Proposals
from grid.recorder import Recorder
from grid.results.store import ResultsStore
from grid.single import task_of
from grid.spec import MethodResources
from grid.trial import TrialTask, run_trial

TRIALS_PER_TUNER = 1000  # Tune's memory and state grow with every trial that it knows
POLL_SECONDS = 0.5
ERROR_LINES = 12


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
    waiting = plan.needed_stages(trials)
    while waiting:
        for stage in [s for s in waiting if any(key in failed for key in s.inputs.values())]:
            failed[stage.key] = next(failed[key] for key in stage.inputs.values() if key in failed)
        waiting = [stage for stage in waiting if stage.key not in failed]
        pending = {stage.key for stage in waiting}
        ready = [s for s in waiting if not pending.intersection(s.inputs.values())]
        tensors = [stage for stage in ready if isinstance(stage.stage, TensorStage)]
        batch = tensors or ready[:1]
        run = _run_tensor_stages if tensors else _run_column_stage
        failed |= run(plan, batch, store, results, cluster, display)
        waiting = [stage for stage in waiting if stage not in batch]
    return failed


def _run_tensor_stages(
    plan: Plan,
    stages: Sequence[PlannedStage],
    store: ArtifactStore,
    results: ResultsStore,
    cluster: Mapping[str, float],
    display: Display,
) -> dict[str, str]:
    """All at once: the cluster runs as many as it has room for."""
    resources = {s.key: plan.spec.resources.stage(s.stage.kind) for s in stages}
    running = {start_tensor_stage(s, store, resources[s.key]): s for s in stages}
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


def _run_column_stage(
    plan: Plan,
    stages: Sequence[PlannedStage],
    store: ArtifactStore,
    results: ResultsStore,
    cluster: Mapping[str, float],
    display: Display,
) -> dict[str, str]:
    (stage,) = stages
    assert stage.dataset is not None
    used = plan.spec.resources.stage(stage.stage.kind)
    task = display.task(f"stage {stage.stage.kind} of {stage.dataset.name}", stage.images, "images")
    try:
        manifest = run_column_stage(
            stage,
            plan.stages,
            store,
            used,
            cluster,
            plan.spec.max_failed_fraction,
            lambda done, _: task.update(done),
        )
    except (StageFailed, ray.exceptions.RayError) as error:
        reason = f"stage {stage.stage.kind}: {_last_line(error).removeprefix(f'stage {stage.stage.kind}: ')}"
        task.finish(f"failed: {reason}")
        return {stage.key: reason}
    results.record_stage(manifest)
    task.finish(_summary(manifest))
    return {}


def _summary(manifest: Mapping[str, Any]) -> str:
    computed, seconds = manifest["images_computed"], manifest["seconds"]
    parts = [f"{computed} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.0f} images/s"]
    if manifest["images_resumed"]:
        parts.append(f"{manifest['images_resumed']} were there")
    if manifest["failed"]:
        reason = next(iter(manifest["failures"].values()))
        parts.append(f"{manifest['failed']} FAILED ({reason})")
    return ", ".join(parts)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Feed(Searcher):
    """Hands the next claimed group of trials to Tune, and tells the proposals when one has ended."""

    def __init__(
        self,
        proposals: Proposals,
        recorder: Recorder,
        task_of: Callable[[PlannedTrial, int], TrialTask],
        limit: int,
    ) -> None:
        super().__init__()
        self._proposals, self._recorder, self._task_of = proposals, recorder, task_of
        self._limit = limit
        self._groups: dict[str, list[PlannedTrial]] = {}
        self.exhausted = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The tasks of the next group; trials that another launch has taken are left to it."""
        while len(self._groups) < self._limit:
            group = self._proposals.next()
            if group is None:
                self.exhausted = True
                break
            claimed = [(trial, self._recorder.claim(trial.id)) for trial in group]
            tasks = [self._task_of(trial, attempt) for trial, attempt in claimed if attempt]
            if tasks:
                self._groups[trial_id] = group
                return {"tasks": tasks}
            self._proposals.tell(group)
        return str(Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The group of this Tune trial has ended."""
        self._proposals.tell(self._groups[trial_id])

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given, and its copy is never restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the results store is what a later launch starts from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""


class Ended(tune.Callback):
    """Hands every report and every death to the recorder."""

    def __init__(self, recorder: Recorder, store: ArtifactStore, on_change: Callable[[], None]) -> None:
        self._recorder, self._store, self._on_change = recorder, store, on_change

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """One of our trials has ended in its worker."""
        if "manifest" in result:
            self._recorder.finish(self._store.storage.read_json(result["manifest"]))
        elif "failure" in result:
            self._recorder.fail(result["failed_trial"], result["failure"])
        self._on_change()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for the feed."""
        return {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died: what it had not reported has failed."""
        for task in trial.config["tasks"]:
            if task.id in self._recorder.running:
                error = getattr(trial, "get_error", lambda: None)()
                self._recorder.fail(task.id, f"the trial's worker died: {error}")
        self._on_change()


def run_tasks(
    config: dict[str, Any], datasets: Mapping[str, Dataset], store: ArtifactStore, threads: int
) -> None:
    """What a Tune worker does: its tasks, one after the other; a failing one does not stop the others."""
    import torch

    torch.set_num_threads(threads)
    for task in config["tasks"]:
        try:
            report = run_trial(task, datasets[task.dataset], store)
        except Exception:  # a trial may raise anything: it is kept as the trial's error
            lines = traceback.format_exc().strip().splitlines()[-ERROR_LINES:]
            tune.report({"failed_trial": task.id, "failure": "\n".join(lines)})
            continue
        tune.report({"manifest": f"{report['uri'].removeprefix(store.storage.child(''))}/manifest.json"})


def run_trials(
    plan: Plan,
    proposals: Mapping[str, Proposals],
    recorder: Recorder,
    store: ArtifactStore,
    cluster: Mapping[str, float],
    display: Display,
    total: int,
    name: str,
) -> None:
    """Runs all proposals, one Tuner for each resource shape (key: a method of that shape)."""
    task = display.task("trials", total, "trials")

    def show() -> None:
        task.update(*_state(recorder, total))

    for method, source in proposals.items():
        resources = plan.spec.resources.method(method)
        exhausted = False
        while not exhausted:
            exhausted = _run_tuner(plan, source, recorder, store, resources, cluster, name, show)
    _finish(task, recorder)


def _state(recorder: Recorder, total: int) -> tuple[int, str]:
    ended = len(recorder.done) + len(recorder.failed)
    left = max(total - ended, 0)
    return ended, f"{len(recorder.done)} done, {len(recorder.failed)} failed, {left} left"


def _finish(task: Task, recorder: Recorder) -> None:
    done, failed = len(recorder.done), len(recorder.failed)
    task.finish(f"{done} done, {failed} failed in {task.seconds:.1f} s")


def _run_tuner(
    plan: Plan,
    source: Proposals,
    recorder: Recorder,
    store: ArtifactStore,
    resources: MethodResources,
    cluster: Mapping[str, float],
    name: str,
    show: Callable[[], None],
) -> bool:
    """Up to TRIALS_PER_TUNER groups; whether the source is exhausted."""
    at_once = int(cluster["CPU"] // resources.num_cpus)
    if resources.num_gpus:
        at_once = min(at_once, int(cluster["GPU"] // resources.num_gpus))
    feed = Feed(source, recorder, lambda t, a: task_of(plan, t, a), TRIALS_PER_TUNER)
    trainable = tune.with_parameters(
        run_tasks,
        datasets={dataset.name: dataset for dataset in plan.datasets},
        store=store,
        threads=max(1, int(resources.num_cpus)),
    )
    needs = {"cpu": resources.num_cpus, "gpu": resources.num_gpus}
    tuner = tune.Tuner(
        tune.with_resources(trainable, needs),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(feed, max_concurrent=at_once),
            num_samples=TRIALS_PER_TUNER,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=_tune_path(store),
            verbose=0,
            callbacks=[Ended(recorder, store, show)],
        ),
    )
    tuner.fit()
    return feed.exhausted


def _tune_path(store: ArtifactStore) -> str:
    uri = store.storage.child("tune")
    return uri.removeprefix("file://")


class Heartbeat:
    """Tells the results store twice a minute that this launch lives."""

    def __init__(self, results: ResultsStore, launch_id: int) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(results, launch_id), daemon=True)
        self._thread.start()

    def _beat(self, results: ResultsStore, launch_id: int) -> None:
        while not self._stop.wait(20):
            results.beat(launch_id)

    def stop(self) -> None:
        """No more beats."""
        self._stop.set()
        self._thread.join()
