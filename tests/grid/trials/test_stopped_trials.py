"""The life cycle of trials that a scheduler stops, with a fake executor that steps as Ray Tune does."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from rich.console import Console

from components.data.fingerprint import FileHashes
from grid.inputs.datasets import Dataset
from grid.planning.plan import Plan
from grid.planning.plan_view import show_plan
from grid.planning.planning import curves_of, plan_of, proposals_of
from grid.planning.proposals import OneByOne, Rest
from grid.spec.spec import SpecError, parse_spec
from grid.trials.early_stopping import EarlyStopping
from grid.trials.launch import Ended, Feed
from grid.trials.recorder import Recorder
from grid.trials.single import task_of
from tests.grid.test_life_cycle import CARD, SEARCH, World

STEPS = 4
SCHEDULER = {"kind": "asha", "grace": 2, "factor": 2}
GRID = {
    "methods": [
        {**SEARCH["methods"][0], "k_top": 3, "lambda_concept": [0.1, 0.2, 0.3, 0.4], "segmenter": "slic"}
    ],
    "search": {"kind": "grid", "scheduler": SCHEDULER},
}


class Killed(BaseException):
    """The driver's process is gone."""


class Stepping(World):
    """Trials of four steps, whose accuracy on val is the same at each; a trial's own is merit(task)."""

    def __init__(self, folder: Path, merit: Callable[[Any], float], **content: Any) -> None:
        super().__init__(folder, **content)
        self.merit, self.hashes = merit, FileHashes(folder / "hashes.json")
        self.steps: list[str] = []

    def planned(self, **changes: Any) -> Plan:
        spec = parse_spec({"name": "t", "datasets": ["toybirds"], **self.content, **changes}, "t.yaml")
        return plan_of(spec, [Dataset(CARD, None, None, self.fingerprint)], self)  # type: ignore[arg-type]

    def launch(self, plan: Plan, killed_at: int = 10_000) -> Recorder:
        """One worker; killed_at: the number of steps after which the driver dies."""
        self.results.heal()
        self.enter(plan.asked)
        for trial_id in plan.to_go_on:
            self.results.reopen(trial_id)
        recorder, search = self.recorder(), plan.spec.search
        scheduler = None
        if search.scheduler and search.watched:
            curves = curves_of(plan.spec, self)  # type: ignore[arg-type]
            scheduler = EarlyStopping(search.scheduler, search.watched, curves)
        for source in proposals_of(plan, plan.to_run, self).values():  # type: ignore[arg-type]
            feed = Feed(OneByOne(source), recorder, lambda t, a: task_of(plan, t, a), 1000)
            ended = Ended(recorder, self.store, lambda: None, scheduler)
            number = 0
            while isinstance(config := feed.suggest(str(number)), dict):
                self._run(config, ended, scheduler, killed_at)
                feed.on_trial_complete(str(number))
                number += 1
        return recorder

    def report(self, trial_id: str, attempt: int, value: float = 0.5) -> dict[str, Any]:
        report = super().report(trial_id, attempt, value)
        report["metrics"] += [_metric(step, value) for step in range(STEPS)]
        self.store.storage.write_json(f"trials/{trial_id}/{attempt}/manifest.json", report)
        return report

    def _run(self, config: Any, ended: Ended, scheduler: EarlyStopping | None, killed_at: int) -> None:
        (task,) = config["tasks"]
        trial = SimpleNamespace(config=config, trial_id=f"tune {task.id}")
        about = {
            "stepping_trial": task.id,
            "attempt": task.attempt,
            "seconds": 1.5,
            "provenance": {"host": "h"},
        }
        if scheduler:
            scheduler.on_trial_add(None, trial)
        for step in range(STEPS):
            if len(self.steps) == killed_at:
                raise Killed
            self.steps.append(task.id)
            value = self.merit(task)
            result = {**about, "step": step + 1, "value": value, "curve": [_metric(step, value)]}
            stops = scheduler is not None and scheduler.on_trial_result(None, trial, result) == "STOP"
            if scheduler:
                ended.on_trial_result(0, [], trial, {**result, "done": stops})
            if stops:
                return
        self.report(task.id, task.attempt, self.merit(task))
        ended.on_trial_result(0, [], trial, {"finished_trial": task.id, "attempt": task.attempt})


def _metric(step: int, value: float) -> dict[str, Any]:
    return {"name": "average_accuracy", "split": "val", "step": step, "value": value}


def rate(task: Any) -> float:
    return float(task.method.lambda_concept)


def by_rate(world: World, plan: Plan) -> dict[float, str]:
    return {rate(trial): world.results.trial(trial.id)["status"] for trial in plan.trials}


def test_a_stopped_trial_has_its_step_value_and_curve_and_is_not_run_again(tmp_path: Path) -> None:
    world = Stepping(tmp_path, rate, **GRID)
    plan = world.planned()
    recorder = world.launch(plan)
    statuses = by_rate(world, plan)
    assert set(statuses.values()) == {"done", "stopped"}
    assert statuses[0.4] == "done", "the best one"
    assert len(recorder.stopped) == list(statuses.values()).count("stopped")
    stopped = world.results.trial(next(iter(recorder.stopped)))
    assert (stopped["stopped_step"], stopped["stopped_metric"]) == (2, "val_average_accuracy")
    assert (stopped["seconds"], stopped["host"], stopped["error"]) == (1.5, "h", None)
    assert [(m["step"], m["value"]) for m in stopped["metrics"]] == [
        (0, stopped["stopped_value"]),
        (1, stopped["stopped_value"]),
    ]
    again = world.planned()
    assert (again.to_run, again.left, again.to_go_on) == ([], 0, [])
    assert again.done + again.stopped == len(again.trials) == 4
    steps = len(world.steps)
    for trial_id in [*recorder.stopped, *recorder.done]:
        assert world.recorder().claim(trial_id) is None
    world.launch(again)
    assert len(world.steps) == steps


@pytest.mark.parametrize(
    ("scheduler", "goes_on"),
    [
        (SCHEDULER, False),
        ({**SCHEDULER, "grace": 1}, False),
        ({**SCHEDULER, "grace": 3}, True),
        ({**SCHEDULER, "metric": "train_loss", "mode": "min"}, True),
        (None, True),
    ],
)
def test_a_stopped_trial_goes_on_where_the_present_spec_would_not_have_stopped_it(
    scheduler: Any, goes_on: bool, tmp_path: Path
) -> None:
    world = Stepping(tmp_path, rate, **GRID)
    stopped = world.launch(world.planned()).stopped
    plan = world.planned(search={"kind": "grid", "scheduler": scheduler})
    assert set(plan.to_go_on) == (stopped if goes_on else set())
    assert plan.as_json()["to_run"] == (len(stopped) if goes_on else 0)
    assert all(world.results.trial(one)["status"] == "stopped" for one in stopped), "a plan changes nothing"
    if scheduler is None:
        world.launch(plan)
        assert set(by_rate(world, plan).values()) == {"done"}
        assert {world.results.trial(one)["stopped_step"] for one in stopped} == {None}
        assert {world.results.trial(one)["attempt"] for one in stopped} == {2}


@pytest.mark.parametrize("killed_at", [1, 3, 5, 7, 9])
def test_killed_anywhere_the_same_trials_are_stopped_in_the_end_and_nothing_that_ended_repeats(
    killed_at: int, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = Stepping(tmp_path / "whole", rate, **GRID)
    whole.launch(whole.planned())
    (tmp_path / "killed").mkdir()
    world = Stepping(tmp_path / "killed", rate, **GRID)
    with pytest.raises(Killed):
        world.launch(world.planned(), killed_at)
    statuses = world.results.statuses([t.id for t in world.planned().trials])
    (running,) = [one for one, status in statuses.items() if status == "running"]
    ended = [one for one, status in statuses.items() if status in ("done", "stopped")]
    world.results.interrupt([running])  # what heal() does when the driver's process is gone
    before = {one: world.steps.count(one) for one in ended}
    world.launch(world.planned())
    assert {one: world.steps.count(one) for one in ended} == before
    assert by_rate(world, world.planned()) == by_rate(whole, whole.planned())
    for trial in world.planned().trials:
        found = world.results.trial(trial.id)
        steps = [metric["step"] for metric in found["metrics"] if metric["step"] is not None]
        assert steps == list(range(found["stopped_step"] or STEPS)), "no curve is there twice, or in part"


def test_to_a_sampler_a_stopped_configuration_counts_and_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies: list[Any] = []
    create = optuna.create_study
    monkeypatch.setattr(optuna, "create_study", lambda **how: studies.append(create(**how)) or studies[-1])
    search = {**SEARCH["search"], "scheduler": SCHEDULER}  # type: ignore[dict-item]
    world = Stepping(tmp_path, lambda task: 1 - abs(task.method.lambda_concept - 0.3), **SEARCH, **{})
    world.content["search"] = search
    world.launch(world.planned())
    assert len(set(world.steps)) == 24, "the budget of distinct trials, of which each seed runs on its own"
    states = [trial.state.name for trial in studies[-1].trials]
    assert len(states) == 12
    assert set(states) == {"COMPLETE", "PRUNED"}
    told = next(trial for trial in studies[-1].trials if trial.state.name == "PRUNED")
    merit = 1 - abs(next(v for name, v in told.params.items() if "lambda" in name) - 0.3)
    assert list(told.intermediate_values.values()) == [pytest.approx(merit)]
    plan = world.planned()
    assert (plan.left, plan.to_run) == (0, [])
    assert plan.stopped > 0
    world.content["search"] = {**search, "trials": 26}
    world.launch(world.planned())
    assert len(set(world.steps)) == 26
    recalled = [trial.state.name for trial in studies[-1].trials]
    assert sorted(recalled[:12]) == sorted(states), "the next launch tells the sampler the same"


def test_a_group_is_told_when_all_of_its_trials_have_ended() -> None:
    told: list[list[str]] = []

    class Groups(Rest):
        def next(self) -> Any:
            return [self._queue.popleft(), self._queue.popleft()] if self._queue else None

        def tell(self, group: Any) -> None:
            told.append([trial.id for trial in group])

    one_by_one = OneByOne(Groups([SimpleNamespace(id=name) for name in "abcd"]))  # type: ignore[misc]
    given = [one_by_one.next() for _ in range(5)]
    assert [trial[0].id for trial in given if trial] == list("abcd")
    for trial in (given[2], given[0], given[3], given[1]):
        one_by_one.tell(trial or [])
    assert told == [["c", "d"], ["a", "b"]]


FINE_TUNING = {"method": "fine_tuning", "learning_rate": [1e-3, 1e-4]}
BY_LOSS = {**SCHEDULER, "metric": "held_out_loss", "mode": "min"}


def test_a_scheduler_that_no_method_can_be_stopped_by_is_refused_before_anything_runs(
    plan: Callable[..., Plan],
) -> None:
    with pytest.raises(SpecError) as refused:
        plan(FINE_TUNING, {"method": "lf_cbm"}, search={"scheduler": SCHEDULER})
    assert "no method of the spec reports 'val_average_accuracy'" in str(refused.value)
    assert "fine_tuning: held_out_loss, train_loss" in str(refused.value)
    with pytest.raises(SpecError, match="none of them trains in its trials step by step"):
        plan({"method": "lf_cbm"}, search={"scheduler": BY_LOSS})
    with pytest.raises(SpecError, match="give both"):
        plan(FINE_TUNING, search={"scheduler": {**SCHEDULER, "metric": "held_out_loss"}})


def test_methods_that_a_scheduler_cannot_stop_are_named_beside_those_that_it_can(
    plan: Callable[..., Plan],
) -> None:
    found = plan(FINE_TUNING, {"method": "standard"}, {"method": "lf_cbm"}, search={"scheduler": BY_LOSS})
    assert found.as_json()["never_stopped"] == {"standard": 1, "lf_cbm": 1}
    said = io.StringIO()
    show_plan(found, Console(file=said, width=300))
    line = "the scheduler stops no trial of standard, lf_cbm that reports no held_out_loss after steps"
    assert line in said.getvalue()
    assert plan(FINE_TUNING, {"method": "standard"}).as_json()["never_stopped"] == {}


def test_the_warm_up_can_be_watched_where_there_is_one(plan: Callable[..., Plan]) -> None:
    by_warm_up = {"scheduler": {**SCHEDULER, "metric": "train_warmup_loss", "mode": "min"}}
    block = SEARCH["methods"][0] | {"k_top": 3, "lambda_concept": 0.1, "segmenter": "slic"}  # type: ignore[index]
    found = plan({**block, "warmup_epochs": [0, 2]}, search=by_warm_up)
    assert found.as_json()["never_stopped"] == {"seg_mil_cbm": 1}, "the one without"
    with pytest.raises(SpecError, match="reports 'train_warmup_loss'"):
        plan(block, search=by_warm_up)
