"""What counts as done is what the present spec asks for: edits between launches, of grids and of searches."""

from pathlib import Path
from typing import Any

import pytest

from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from grid.planning.plan import Plan
from grid.planning.proposals import Rest
from tests.grid.test_life_cycle import GRID, SEARCH, World, optuna_run

BLOCK: dict[str, Any] = SEARCH["methods"][0]  # type: ignore[index]


def launch(world: World) -> Plan:
    """What a run does of an experiment."""
    plan = world.plan()
    if not plan.searches:
        world.enter(plan.trials)
    world.results.set_form("t", [trial.id for trial in plan.asked])
    if plan.searches:
        return optuna_run(world)
    world.execute(plan, Rest(plan.to_run), lambda task: 0.5)
    return plan


def counts(world: World) -> tuple[dict[str, int], dict[str, int]]:
    summary = world.results.experiment_summary("t")
    return summary["trials"], summary["earlier"]


@pytest.fixture
def searched(tmp_path: Path) -> World:
    """An Optuna search of 8 trials, all done."""
    world = World(tmp_path, **{**SEARCH, "search": {"kind": "optuna", "trials": 8, "seed": 0}})
    launch(world)
    assert len(world.executed) == 8
    assert counts(world) == ({"done": 8}, {})
    return world


def test_a_search_over_another_space_runs_its_budget_there(searched: World) -> None:
    searched.content["methods"] = [{**BLOCK, "k_top": [4, 6]}]
    plan = searched.plan()
    assert (plan.done, len(plan.earlier)) == (0, 8)
    launch(searched)
    assert len(searched.executed) == 8 + 8
    assert counts(searched) == ({"done": 8}, {"done": 8})
    assert searched.plan().to_run == []


def test_a_search_on_other_data_runs_its_budget_there(searched: World) -> None:
    searched.fingerprint = "other images"
    assert searched.plan().done == 0
    launch(searched)
    assert counts(searched) == ({"done": 8}, {"done": 8})


def test_a_search_after_a_new_version_runs_its_budget_again(
    searched: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SegMilCbm, "VERSION", SegMilCbm.VERSION + 1)
    assert searched.plan().done == 0
    launch(searched)
    assert len(searched.executed) == len(set(searched.executed)) == 16


def test_a_search_with_one_seed_more_runs_that_seed_of_what_it_has(searched: World) -> None:
    searched.content["seeds"] = [0, 1, 2]
    searched.content["search"] = {"kind": "optuna", "trials": 12, "seed": 0}
    assert searched.plan().done == 8
    launch(searched)
    assert len(searched.executed) == len(set(searched.executed)) == 12, "four configurations, one seed each"
    assert counts(searched) == ({"done": 12}, {})


def test_a_search_that_goes_back_finds_its_trials(searched: World) -> None:
    before = dict(searched.content)
    searched.content["methods"] = [{**BLOCK, "k_top": [4, 6]}]
    launch(searched)
    searched.content = before
    assert searched.plan().to_run == []
    launch(searched)
    assert len(searched.executed) == 16
    assert counts(searched) == ({"done": 8}, {"done": 8})


def test_a_search_runs_what_had_failed_before_anything_new(tmp_path: Path) -> None:
    world = World(tmp_path, **{**SEARCH, "search": {"kind": "optuna", "trials": 8, "seed": 0}})
    plan = optuna_run(world, stop_after=4)
    assert plan.budget == len(world.executed) == 8
    lost = world.executed[3]
    world.results.reopen(lost)
    world.results.claim(lost, None)
    world.results.fail(lost, "ValueError: no")
    assert world.plan().done == 7
    launch(world)
    assert world.executed[8:] == [lost]
    assert counts(world) == ({"done": 8}, {})


def test_trials_of_a_grid_that_it_does_not_ask_for_any_more_are_not_pending_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    plan = world.plan()
    world.enter(plan.trials)
    world.execute(plan, Rest(plan.to_run[:2]), lambda task: 0.5)
    assert counts(world) == ({"done": 2, "pending": 2}, {})
    world.content["seeds"] = [1, 4]
    assert len(world.plan().earlier) == 3
    launch(world)
    assert counts(world) == ({"done": 2}, {"done": 1, "pending": 2})
    world.content["seeds"] = [0, 1]
    assert world.plan().to_run == []
    launch(world)
    assert counts(world) == ({"done": 2}, {"done": 1, "pending": 2})


def test_a_random_search_with_other_numbers_of_trials(tmp_path: Path) -> None:
    world = World(tmp_path, **{**SEARCH, "search": {"kind": "random", "trials": 8, "seed": 0}})
    launch(world)
    world.content["search"] = {"kind": "random", "trials": 4, "seed": 0}
    launch(world)
    assert counts(world) == ({"done": 4}, {"done": 4})


def test_a_trial_of_an_earlier_form_is_found_with_the_experiment_that_asked_for_it(tmp_path: Path) -> None:
    world = World(tmp_path, **GRID)
    launch(world)
    world.content["seeds"] = [0]
    plan = world.plan()
    launch(world)
    (earlier, *_) = sorted(plan.earlier)
    found = world.results.trial(earlier)
    assert (found["experiments"], found["experiments_earlier"]) == (["t"], ["t"])
    assert world.results.trial(plan.trials[0].id)["experiments_earlier"] == []
