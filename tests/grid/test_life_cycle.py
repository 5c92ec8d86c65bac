"""The life cycle of a launch's trials with a fake executor: milliseconds instead of Ray Tune."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from grid.inputs.datasets import Dataset
from grid.planning.goals import Measured, measured
from grid.planning.optuna_search import OptunaProposals
from grid.planning.plan import Plan, make_plan
from grid.planning.planned import PlannedTrial
from grid.planning.proposals import Proposals, Rest
from grid.results import history
from grid.results.store import ResultsStore
from grid.results.throughput import Throughput
from grid.spec.spec import parse_spec
from grid.stores.artifacts import ArtifactStore
from grid.trials.launch import Ended, Feed
from grid.trials.recorder import Recorder
from grid.trials.single import task_of

CARD = load_card("toybirds")


Numbers = dict[tuple[str, str], float]  # of a trial, by name and split


class World:
    """Stores of one test, and a plan over a data set that is never read."""

    def __init__(self, folder: Path, **content: Any) -> None:
        self.results = ResultsStore.open(f"sqlite:///{folder / 'results.db'}")
        self.store = ArtifactStore(str(folder / "artifacts"))
        self.folder, self.content = folder, content
        self.name = content.get("name", "t")
        self.fingerprint = "fingerprint"
        self.executed: list[str] = []

    def plan(self) -> Plan:
        spec = parse_spec({"name": "t", "datasets": ["toybirds"], **self.content}, "t.yaml")
        hashes = FileHashes(self.folder / "hashes.json")
        with self.results.reading() as connection:
            entered = history.entered(connection, self.name)
        datasets = [Dataset(CARD, None, None, self.fingerprint)]
        return make_plan(spec, datasets, hashes, lambda k: True, self.results.statuses, Throughput(), entered)

    def recorder(self) -> Recorder:
        launch = self.results.begin_launch(self.name, spec="", plan={}, command="")
        return Recorder(self.results, self.store, launch, lambda trial_id: None)

    def report(self, trial_id: str, attempt: int, value: float | Numbers = 0.5) -> dict[str, Any]:
        """What a worker leaves when a trial has ended: one number, or several by name and split."""
        folder = f"trials/{trial_id}/{attempt}"
        numbers = value if isinstance(value, dict) else {("average_accuracy", "val"): value}
        told = {"group": "all", "selection": "last", "step": None}
        metrics = [{"name": n, "split": split, "value": v, **told} for (n, split), v in numbers.items()]
        report = {
            "trial": trial_id, "attempt": attempt, "metrics": metrics, "n_failed": 0, "on_failed": "wrong",
            "pictures": [], "seconds": 0.1, "provenance": {}, "uri": self.store.storage.child(folder),
        }  # fmt: skip
        self.store.storage.write_json(f"{folder}/manifest.json", report)
        return report

    def execute(
        self,
        plan: Plan,
        proposals: Proposals,
        outcome: Callable[[Any], float | str | Numbers | None],
        stop_after: int = 10_000,
    ) -> Recorder:
        """Runs what the feed gives. outcome(task): a value, an error, or None for a worker that dies."""
        recorder = self.recorder()
        feed = Feed(proposals, recorder, lambda t, a: task_of(plan, t, a), 1000)
        ended = Ended(recorder, self.store, lambda: None)
        for number in range(stop_after):
            config = feed.suggest(str(number))
            if not isinstance(config, dict):
                break
            trial = SimpleNamespace(config=config)
            for task in config["tasks"]:
                self.executed.append(task.id)
                value = outcome(task)
                if value is None:
                    ended.on_trial_error(0, [], trial)
                    break
                if isinstance(value, str):
                    ended.on_trial_result(0, [], trial, {"failed_trial": task.id, "failure": value})
                else:
                    self.report(task.id, task.attempt, value)
                    finished = {"finished_trial": task.id, "attempt": task.attempt}
                    ended.on_trial_result(0, [], trial, finished)
            feed.on_trial_complete(str(number))
        return recorder

    def enter(self, trials: Sequence[PlannedTrial]) -> None:
        self.results.enter(self.name, [trial.entry() for trial in trials])

    def statuses(self, plan: Plan) -> list[str]:
        return [self.results.statuses([t.id])[t.id] for t in plan.trials]


GRID = {"methods": [{"method": "standard"}], "seeds": [0, 1, 2, 3]}


def test_failures_do_not_stop_the_grid_and_run_again_next_time(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    bad, dead = plan.trials[1].id, plan.trials[2].id
    outcome = lambda task: {bad: "ValueError: no", dead: None}.get(task.id, 0.5)  # noqa: E731
    recorder = world.execute(plan, Rest(plan.to_run), outcome)
    assert world.statuses(plan) == ["done", "failed", "failed", "done"]
    assert recorder.failed[bad] == "ValueError: no"
    assert "worker died" in world.results.trial(dead)["error"]
    assert not recorder.running

    again = world.plan()
    assert [trial.id for trial in again.to_run] == [bad, dead]
    world.execute(again, Rest(again.to_run), lambda task: 0.7)
    assert world.statuses(plan) == ["done"] * 4
    assert world.executed.count(plan.trials[0].id) == 1
    assert world.results.trial(bad)["attempt"] == 2


def test_a_driver_that_dies_leaves_its_trial_to_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)

    class Killed(BaseException):
        pass

    def outcome(task: Any) -> float:
        if len(world.executed) == 3:
            world.report(task.id, task.attempt, 0.9)  # the worker had just written its report
            raise Killed
        return 0.5

    with pytest.raises(Killed):
        world.execute(plan, Rest(plan.to_run), outcome)
    third = plan.trials[2].id
    assert world.results.trial(third)["status"] == "running"
    world.results.interrupt([third])  # what heal() does when the driver's process is gone

    recovered = world.recorder().recover([t.id for t in world.plan().to_run])
    assert recovered == {third}, "a report that was written is recorded, not computed again"
    assert world.statuses(plan) == ["done", "done", "done", "pending"]
    assert world.results.trial(third)["metrics"][0]["value"] == 0.9


@pytest.mark.parametrize("left", ["", "{", "[]", "{}"])
def test_a_report_that_a_crash_cut_short_is_named_and_its_trial_runs_again(
    left: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    first = plan.trials[0].id
    attempt = world.recorder().claim(first)
    assert attempt == 1
    world.report(first, attempt, 0.9)
    world.store.storage.write(f"trials/{first}/1/manifest.json", left.encode())
    world.results.interrupt([first])
    assert world.recorder().recover([first]) == set()
    (line,) = caplog.messages
    assert f"trial {first}: manifest.json" in line
    assert line.endswith("; it runs again")
    world.execute(world.plan(), Rest([plan.trials[0]]), lambda task: 0.5)
    assert world.results.trial(first)["metrics"][0]["value"] == 0.5


def test_a_report_that_is_cut_short_when_its_worker_says_that_it_is_done_fails_its_trial(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    recorder = world.recorder()
    first = plan.trials[0].id
    assert recorder.claim(first) == 1
    world.store.storage.write(f"trials/{first}/1/manifest.json", b"{")
    ended = Ended(recorder, world.store, lambda: None)
    ended.on_trial_result(0, [], None, {"finished_trial": first, "attempt": 1})
    assert "manifest.json cannot be read" in world.results.trial(first)["error"]


def test_a_trial_to_run_again_keeps_its_numbers_until_a_launch_takes_it(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    world.execute(plan, Rest(plan.to_run), lambda task: 0.5)
    first = plan.trials[0].id
    assert world.results.reopen(first)
    before = world.results.trial(first)
    assert before["status"] == "done"
    assert before["metrics"][0]["value"] == 0.5
    assert [trial.id for trial in world.plan().to_run] == [first]
    assert world.results.experiment_summary("t")["to_rerun"] == [first]
    assert world.recorder().recover([first]) == set(), "its report is not taken for a new one"
    world.execute(world.plan(), Rest(world.plan().to_run), lambda task: 0.7)
    assert world.results.trial(first)["metrics"][0]["value"] == 0.7
    assert world.plan().to_run == []


def test_two_launches_share_the_trials_and_run_none_twice(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    other = world.recorder()
    assert other.claim(plan.trials[0].id) == 1
    world.execute(plan, Rest(plan.to_run), lambda task: 0.5)
    assert plan.trials[0].id not in world.executed
    assert world.statuses(plan) == ["running", "done", "done", "done"]


SEARCH = {
    "methods": [
        {
            "method": "seg_mil_cbm",
            "clip": {"checkpoint": "datasets/toybirds/clip"},
            "segmenter": ["slic", {"name": "slic", "n_segments": 50}],
            "k_top": [3, 5, 10],
            "lambda_concept": {"low": 0.0, "high": 1.0},
        }
    ],
    "seeds": [0, 1],
    "search": {"kind": "optuna", "trials": 24, "seed": 0},
}


def learnt(task: Any) -> float:
    return float(1 - (task.method.lambda_concept - 0.3) ** 2)


def optuna_run(
    world: World, stop_after: int = 10_000, outcome: Callable[[Any], float | str | Numbers | None] = learnt
) -> Plan:
    plan = world.plan()

    def value_of(group: Sequence[PlannedTrial]) -> Measured | None:
        with world.results.reading() as connection:
            return measured(connection, plan.spec.search, [t.id for t in group], len(group))

    warm = [(one.known, one.measured) for one in plan.warm]
    proposals = OptunaProposals(plan, value_of, world.enter, warm=warm)
    world.execute(plan, proposals, outcome, stop_after)
    return plan


def test_optuna_runs_its_budget_of_distinct_trials_and_learns(tmp_path: Path) -> None:
    world = World(tmp_path, **SEARCH)
    plan = optuna_run(world)
    assert len(world.executed) == len(set(world.executed)) == 24
    with world.results.reading() as connection:
        finished = history.entered(connection, "t")
    assert len(finished) == 24
    values = [config["lambda_concept"] for _, _, config in finished[::2]]
    assert [config["lambda_concept"] for _, _, config in finished[1::2]] == values, "both seeds of each"
    assert min(abs(value - 0.3) for value in values) < 0.1
    keys = {key for t in plan.trials for key in t.closure}
    assert keys == set(plan.stages), "no proposal needed a stage that the plan did not have"
    assert world.plan().done == 24
    optuna_run(world)
    assert len(world.executed) == 24, "the same command again proposes nothing new"


def test_optuna_resumes_from_the_results_store(tmp_path: Path) -> None:
    world = World(tmp_path, **SEARCH)
    optuna_run(world, stop_after=5)
    assert len(world.executed) == 10
    optuna_run(world)
    assert len(world.executed) == len(set(world.executed)) == 24


def test_optuna_stops_when_the_space_is_exhausted(tmp_path: Path) -> None:
    small = {**SEARCH["methods"][0], "lambda_concept": 0.1, "k_top": [3, 5], "segmenter": "slic"}  # type: ignore[index]
    world = World(tmp_path, **{**SEARCH, "methods": [small]})
    optuna_run(world)
    assert len(set(world.executed)) == len(world.executed) == 4
