"""The trials of a launch on Ray Tune. The results store is the truth, Tune a scheduler."""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher

from grid.inputs.datasets import Dataset
from grid.planning.plan import Plan
from grid.planning.planned import PlannedTrial
from grid.planning.proposals import OneByOne, Proposals
from grid.progress import Display, Task
from grid.results.history import Curve
from grid.spec.spec import MethodResources
from grid.stores.artifacts import ArtifactStore
from grid.stores.evidence import MANIFEST, BrokenEvidence
from grid.trials.early_stopping import STEP, VALUE, EarlyStopping, Steps
from grid.trials.recorder import Recorder
from grid.trials.single import task_of, use_threads
from grid.trials.trial import TrialTask, finished_report, run_trial

TRIALS_PER_TUNER = 1000  # Tune's memory and state grow with every trial that it knows
ERROR_LINES = 12
QUIET = {  # Tune's own loggers and banner say again what the results store has and the display shows
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the launch's to handle
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # that a trial has ended is reported without a number
}


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
    """Hands every report and every death to the recorder, and every trial that a scheduler has stopped."""

    def __init__(
        self,
        recorder: Recorder,
        store: ArtifactStore,
        on_change: Callable[[], None],
        scheduler: EarlyStopping | None = None,
    ) -> None:
        self._recorder, self._store, self._on_change = recorder, store, on_change
        self._scheduler = scheduler
        self._curves: dict[str, list[dict[str, Any]]] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """One of our trials has ended in its worker, or gone a step."""
        if "stepping_trial" in result:
            self._stepped(result)
        elif "finished_trial" in result:
            self._finished(result["finished_trial"], result["attempt"])
        elif "failure" in result:
            self._curves.pop(result["failed_trial"], None)
            self._recorder.fail(result["failed_trial"], result["failure"])
        self._on_change()

    def _stepped(self, result: dict[str, Any]) -> None:
        """Keeps the curve; if the scheduler has decided to stop the trial, that is all there is of it."""
        trial_id = result["stepping_trial"]
        curve = self._curves.setdefault(trial_id, [])
        curve += result["curve"]
        if result.get("done") and self._scheduler is not None:
            del self._curves[trial_id]
            kept = {name: result[name] for name in ("attempt", "seconds", "provenance", STEP, VALUE)}
            stopped = {"trial": trial_id, "metric": self._scheduler.watched.metric, "metrics": curve}
            self._recorder.stop({**kept, **stopped})

    def _finished(self, trial_id: str, attempt: int) -> None:
        self._curves.pop(trial_id, None)
        try:
            report = finished_report(self._store, trial_id, attempt)
        except BrokenEvidence as error:
            return self._recorder.fail(trial_id, str(error))
        if report is None:
            return self._recorder.fail(trial_id, f"trial {trial_id}: its {MANIFEST} is gone")
        return self._recorder.finish(report)

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
    config: dict[str, Any],
    datasets: Mapping[str | None, Dataset],
    store: ArtifactStore,
    resources: MethodResources,
    watched: str | None = None,
) -> None:
    """What a Tune worker does: its tasks, one after the other; a failing one does not stop the others.
    watched: what a scheduler goes by; it may end the worker's function at any step, by SystemExit."""
    use_threads(resources.num_cpus)
    for task in config["tasks"]:
        on_step = None
        if watched is not None and task.method.can_be_stopped_by(watched):
            on_step = Steps(task, watched, resources.device)
        try:
            run_trial(task, datasets[task.data_fingerprint], store, resources.device, on_step)
        except Exception:  # a trial may raise anything: it is kept as the trial's error
            lines = traceback.format_exc().strip().splitlines()[-ERROR_LINES:]
            tune.report({"failed_trial": task.id, "failure": "\n".join(lines)})
            continue
        tune.report({"finished_trial": task.id, "attempt": task.attempt})


def run_trials(
    plan: Plan,
    proposals: Mapping[str, Proposals],
    recorder: Recorder,
    store: ArtifactStore,
    cluster: Mapping[str, float],
    display: Display,
    total: int,
    name: str,
    curves: Sequence[Curve] = (),
) -> None:
    """Runs all proposals, one Tuner for each resource shape (key: a method of that shape). curves: of trials
    that ended before, which the scheduler is told of first."""
    os.environ.update(QUIET)
    task = display.task("trials", total, "trials")
    watched = plan.spec.search.watched
    scheduler = None
    if plan.spec.search.scheduler and watched:
        scheduler = EarlyStopping(plan.spec.search.scheduler, watched, curves)

    def show() -> None:
        task.update(*_state(recorder, total))

    for method, source in proposals.items():
        resources = plan.spec.resources.method(method)
        groups = OneByOne(source) if scheduler else source
        ended = Ended(recorder, store, show, scheduler)
        exhausted = False
        while not exhausted:
            exhausted = _run_tuner(plan, groups, recorder, store, resources, cluster, name, ended, scheduler)
    _finish(task, recorder)


def _state(recorder: Recorder, total: int) -> tuple[int, str]:
    ended = len(recorder.done) + len(recorder.stopped) + len(recorder.failed)
    left = max(total - ended, 0)
    return ended, f"{_ended(recorder)}, {left} left"


def _finish(task: Task, recorder: Recorder) -> None:
    task.finish(f"{_ended(recorder)} in {task.seconds:.1f} s")


def _ended(recorder: Recorder) -> str:
    stopped = f", {len(recorder.stopped)} stopped early" if recorder.stopped else ""
    return f"{len(recorder.done)} done{stopped}, {len(recorder.failed)} failed"


def _run_tuner(
    plan: Plan,
    source: Proposals,
    recorder: Recorder,
    store: ArtifactStore,
    resources: MethodResources,
    cluster: Mapping[str, float],
    name: str,
    ended: Ended,
    scheduler: EarlyStopping | None,
) -> bool:
    """Up to TRIALS_PER_TUNER groups; whether the source is exhausted."""
    at_once = int(cluster["CPU"] // resources.num_cpus)
    if resources.num_gpus:
        at_once = min(at_once, int(cluster["GPU"] // resources.num_gpus))
    feed = Feed(source, recorder, lambda t, a: task_of(plan, t, a), TRIALS_PER_TUNER)
    trainable = tune.with_parameters(
        run_tasks,
        datasets={dataset.fingerprint: dataset for dataset in plan.datasets},
        store=store,
        resources=resources,
        watched=scheduler.watched.metric if scheduler else None,
    )
    needs = {"cpu": resources.num_cpus, "gpu": resources.num_gpus}
    tuner = tune.Tuner(
        tune.with_resources(trainable, needs),
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            search_alg=ConcurrencyLimiter(feed, max_concurrent=at_once),
            num_samples=TRIALS_PER_TUNER,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=store.storage.path("tune"),
            storage_filesystem=store.storage.filesystem,
            verbose=0,
            callbacks=[ended],
        ),
    )
    tuner.fit()
    return feed.exhausted
