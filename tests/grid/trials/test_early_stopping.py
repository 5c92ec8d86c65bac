"""Ray's rules as a spec configures them, on learning curves whose best is known, without a cluster."""

import heapq
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ray import tune

from components.method import Fitted, Method
from components.studies.baselines.methods.standard import Standard
from grid.results.history import Curve
from grid.spec.search import Scheduler, Search, Watched
from grid.spec.spec import MethodResources
from grid.stores.artifacts import ArtifactStore
from grid.trials.early_stopping import STEP, VALUE, EarlyStopping
from grid.trials.launch import run_tasks
from grid.trials.trial import TrialTask
from tests.grid.conftest import unread_birds

TRIALS, STEPS, WORKERS = 100, 27, 4
ACCURACY = Watched("val_average_accuracy", "max")
KIND = ("standard", "f")


def tune_trial(name: str, data: str = "f") -> Any:
    task = SimpleNamespace(method=Standard(), data_fingerprint=data)
    return type("Trial", (), {"trial_id": name, "config": {"tasks": [task]}})()


def learning_curves(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracies by trial and step, as they are and as they are measured: errors fall by power laws of their
    own to floors of their own, so that curves cross; measured with a standard deviation of one percent."""
    stream = np.random.default_rng(seed)
    floor, power = stream.uniform(0.05, 0.5, TRIALS), stream.uniform(0.7, 1.3, TRIALS)
    true = 1 - (floor[:, None] + (0.8 - floor)[:, None] * np.arange(1, STEPS + 1) ** -power[:, None])
    return true, true + stream.normal(0, 0.01, true.shape)


def run(rule: EarlyStopping, curves: NDArray[np.float64], seed: int) -> tuple[set[int], float]:
    """Workers that each take the next trial as soon as theirs has ended, at speeds of their trials: those
    that got to their last step, and the share of all steps that was paid."""
    speeds = np.random.default_rng([seed, 1]).uniform(0.5, 1.5, TRIALS)
    waiting, events, kept, paid = list(range(TRIALS))[::-1], [], set(), 0

    def begin(now: float) -> None:
        if waiting:
            number = waiting.pop()
            rule.on_trial_add(None, trial := tune_trial(str(number)))
            heapq.heappush(events, (now + speeds[number], number, 1, trial))

    for _ in range(WORKERS):
        begin(0.0)
    while events:
        now, number, step, trial = heapq.heappop(events)
        paid += 1
        answer = rule.on_trial_result(None, trial, {STEP: step, VALUE: float(curves[number, step - 1])})
        if answer == "CONTINUE" and step < STEPS:
            heapq.heappush(events, (now + speeds[number], number, step + 1, trial))
            continue
        kept |= {number} if answer == "CONTINUE" else set()
        begin(now)
    return kept, paid / curves.size


@pytest.mark.parametrize(("kind", "runs", "dearest"), [("asha", 100, 0.4), ("median", 20, 0.6)])
def test_the_best_of_known_curves_is_kept_at_a_part_of_the_cost(kind: Any, runs: int, dearest: float) -> None:
    found, costs = 0, []
    for seed in range(runs):
        true, measured = learning_curves(seed)
        kept, cost = run(EarlyStopping(Scheduler(kind=kind), ACCURACY), measured, seed)
        found += int(true[:, -1].argmax()) in kept
        costs.append(cost)
    assert found >= 0.95 * runs
    assert max(costs) <= dearest


def answers(rule: EarlyStopping, trial: Any, values: list[float]) -> list[str]:
    """What the rule says to each value until it stops the trial."""
    rule.on_trial_add(None, trial)
    said: list[str] = []
    for step, value in enumerate(values, 1):
        said.append(rule.on_trial_result(None, trial, {STEP: step, VALUE: value}))
        if said[-1] == "STOP":
            break
    return said


def test_a_trial_is_judged_where_the_paper_says_by_those_of_its_method_and_data_set() -> None:
    """Rungs at 2 and 4 steps, the better half goes on: counted by hand."""
    spec = Scheduler(kind="asha", grace=2, factor=2)
    rule = EarlyStopping(spec, Watched("held_out_loss", "min"))
    go, stop = "CONTINUE", "STOP"
    assert answers(rule, tune_trial("a"), [9, 5, 9, 4]) == [go] * 4, "nobody was there before"
    assert answers(rule, tune_trial("b"), [0, 6]) == [go, stop], "above the median of 5"
    assert answers(rule, tune_trial("c"), [99, 5.5, 99, 5]) == [go, go, go, stop], "the median of 5, 6 is 5.5"
    assert answers(rule, tune_trial("d", data="other"), [9, 99, 9, 99]) == [go] * 4, "alone there"


def test_the_median_rule_stops_what_is_below_the_median_of_means_and_pauses_none() -> None:
    rule = EarlyStopping(Scheduler(kind="median", grace=2, factor=3), ACCURACY)
    for name, values in (("a", [0.9, 0.5, 0.7]), ("b", [0.9, 0.2, 0.2]), ("c", [0.9, 0.4, 0.5])):
        assert answers(rule, tune_trial(name), values) == ["CONTINUE"] * 3, "fewer than three others"
    # means of the others from step 2 on: 0.5, 0.2, 0.4 after two steps and 0.6, 0.2, 0.45 after three
    assert answers(rule, tune_trial("d"), [0.0, 0.41, 0.44]) == ["CONTINUE", "CONTINUE", "STOP"]


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_curves_of_earlier_launches_stand_as_if_they_had_run_in_this_one(kind: Any) -> None:
    spec = Scheduler(kind=kind, grace=2, factor=2)
    _, measured = learning_curves(0)
    once = EarlyStopping(spec, ACCURACY)
    at_once = [answers(once, tune_trial(str(n)), list(curve)) for n, curve in enumerate(measured)]
    half = TRIALS // 2
    earlier = [Curve(str(n), KIND, list(measured[n, : len(at_once[n])])) for n in range(half)]
    later = EarlyStopping(spec, ACCURACY, earlier)
    again = [answers(later, tune_trial(str(n)), list(measured[n])) for n in range(half, TRIALS)]
    assert again == at_once[half:]
    assert {said[-1] for said in again} == {"STOP", "CONTINUE"}
    other = EarlyStopping(spec, ACCURACY, [Curve("x", ("other", "toybirds"), [1.0] * STEPS)] * 3)
    assert answers(other, tune_trial("a"), [0.0] * 9) == ["CONTINUE"] * 9, "another method's curves"


def test_a_step_without_a_number_stops_nothing_and_a_gap_stays_a_gap() -> None:
    rule = EarlyStopping(Scheduler(kind="asha", grace=2, factor=2), ACCURACY, [Curve("a", KIND, [0.1, None])])
    trial = tune_trial("b")
    rule.on_trial_add(None, trial)
    assert rule.on_trial_result(None, trial, {STEP: 2}) == "CONTINUE"
    assert rule.on_trial_result(None, trial, {STEP: 3, VALUE: 0.0}) == "CONTINUE", "the first at this rung"


def test_what_a_scheduler_goes_by_and_where_it_stops() -> None:
    assert Search().watched is None
    search = Search(metric="worst_group_accuracy", scheduler=Scheduler(kind="asha", grace=4))
    assert search.watched == ("val_worst_group_accuracy", "max")
    assert [search.stops_at(step, "val_worst_group_accuracy") for step in (3, 4)] == [False, True]
    assert not search.stops_at(4, "held_out_loss")
    assert not Search().stops_at(4, "held_out_loss")
    own = Search(scheduler=Scheduler(kind="median", metric="held_out_loss", mode="min"))
    assert own.watched == ("held_out_loss", "min")
    for half in ({"metric": "held_out_loss"}, {"mode": "min"}):
        with pytest.raises(ValueError, match="give both"):
            Scheduler(kind="asha", **half)


class Warmed(Method):
    """Warms up, and trains; what comes after the third step is never done."""

    def at_steps(self) -> frozenset[str]:
        return frozenset({"val_average_accuracy"})

    def fit(self, data: Any, seed: int, report: Any) -> Fitted:
        report(0, train_warmup_loss=3.0)
        for step, value in enumerate((0.5, float("nan"), 0.25)):
            report(step, train_loss=1.0, val_average_accuracy=value)
        raise AssertionError("the call came back")


@pytest.mark.parametrize("watched", ["val_average_accuracy", "held_out_loss", None])
def test_a_worker_tells_every_step_of_what_is_watched_and_ends_where_it_is_stopped(
    watched: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []

    def tell(result: dict[str, Any]) -> None:
        told.append(result)
        if len(told) == 3:
            raise SystemExit  # as Ray Tune's does, in the thread of a trial that is stopped

    monkeypatch.setattr(tune, "report", tell)
    store = ArtifactStore(str(tmp_path))
    task = TrialTask("t", 7, Warmed(), "toybirds", 0, {}, {}, "wrong")
    birds = {"toybirds": unread_birds()}
    resources = MethodResources(num_cpus=1)
    if watched != "val_average_accuracy":
        run_tasks({"tasks": [task]}, birds, store, resources, watched)
        (failed,) = told
        assert "the call came back" in failed["failure"], "no step is told, and none waits for an answer"
        return
    with pytest.raises(SystemExit):
        run_tasks({"tasks": [task]}, birds, store, resources, watched)
    assert [(result[STEP], result.get(VALUE)) for result in told] == [(1, 0.5), (2, None), (3, 0.25)]
    assert {(result["stepping_trial"], result["attempt"]) for result in told} == {("t", 7)}
    curve = [(m["name"], m["split"], m["step"], m["value"]) for result in told for m in result["curve"]]
    accuracies = [("average_accuracy", "val", step, v) for step, v in enumerate((0.5, "nan", 0.25))]
    losses = [("loss", "train", step, 1.0) for step in range(3)]
    each = [one for pair in zip(losses, accuracies, strict=True) for one in pair]
    assert curve == [("warmup_loss", "train", 0, 3.0), *each]
    assert list(tmp_path.iterdir()) == [], "it leaves no evidence"
