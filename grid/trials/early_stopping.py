"""Which trials that report steps are stopped early: Ray Tune's rules, with the memory of earlier launches."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from components.identity import component_name
from components.method import Metric, step_place
from grid.results.history import Curve
from grid.spec.search import Scheduler, Watched
from grid.stores.provenance import provenance
from grid.trials.trial import TrialTask, plain

STEP, VALUE = "step", "value"  # steps done, from 1 on, and the watched number then
ENDLESS = 10**9  # steps: ASHA ends no trial because of its length

Kind = tuple[str, str]  # method, and fingerprint of the data


class EarlyStopping(FIFOScheduler):
    """The rule of a spec, once for each method on each data set: others are not comparable.

    A rule hears of finite numbers alone, so a step without one stops nothing.
    """

    def __init__(self, spec: Scheduler, watched: Watched, curves: Iterable[Curve] = ()) -> None:
        super().__init__()
        self._spec, self.watched = spec, watched
        self._rules: dict[Kind, TrialScheduler] = {}
        for curve in curves:
            self._remember(curve)

    def _remember(self, curve: Curve) -> None:
        """Every step as a last one, about which a rule is not asked."""
        rule = self._rule(curve.kind)
        for step, value in enumerate(curve.values, 1):
            if value is not None:
                rule.on_trial_add(None, curve)
                rule.on_trial_complete(None, curve, {STEP: step, VALUE: value})

    def _rule(self, kind: Kind) -> TrialScheduler:
        if kind not in self._rules:
            self._rules[kind] = self._new_rule()
        return self._rules[kind]

    def _new_rule(self) -> TrialScheduler:
        grace, factor, mode = self._spec.grace, self._spec.factor, self.watched.mode
        if self._spec.kind == "asha":
            return ASHAScheduler(
                STEP, VALUE, mode, max_t=ENDLESS, grace_period=grace, reduction_factor=factor
            )
        return MedianStoppingRule(  # a time slice of any length would pause trials, which begin anew after it
            STEP, VALUE, mode, grace, min_samples_required=math.ceil(factor), min_time_slice=math.inf
        )

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial begins."""
        self._rule(_kind(trial)).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on; without a number it does."""
        return str(self._rule(_kind(trial)).on_trial_result(tune_controller, trial, result))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given, and its copy is never restored."""
        return {}


def _kind(trial: Any) -> Kind:
    (task,) = trial.config["tasks"]
    return component_name(task.method), task.data_fingerprint


class Steps:
    """Lives in a worker: tells the driver of every step at which the watched number is reported, with all
    that was reported since the last one, and waits for its answer. If that is to stop, the call does not
    come back (SystemExit)."""

    def __init__(self, task: TrialTask, watched: str, device: str) -> None:
        self._about = {"stepping_trial": task.id, "attempt": task.attempt, "provenance": provenance(device)}
        self._place = step_place(watched)
        self._start, self._done = time.time(), 0
        self._untold: list[Metric] = []

    def __call__(self, metrics: Sequence[Metric]) -> None:
        """What the method reported at once."""
        self._untold += metrics
        found = [metric.value for metric in metrics if (metric.name, metric.split) == self._place]
        if not found:
            return
        self._done += 1
        curve, self._untold = [plain(metric) for metric in self._untold], []
        value = {VALUE: found[0]} if math.isfinite(found[0]) else {}
        spent = time.time() - self._start
        tune.report({**self._about, STEP: self._done, **value, "curve": curve, "seconds": spent})
