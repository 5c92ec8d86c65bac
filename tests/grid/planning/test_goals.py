"""Searches with several goals and conditions, by each sampler, and what they are told of other experiments."""

import inspect
from pathlib import Path
from typing import Any

import optuna
import pytest

from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from grid.planning.optuna_search import sampler_of
from grid.planning.plan import Planner
from grid.planning.plan_view import show_plan
from grid.planning.warm_start import warm_starts
from grid.spec.sampler import OPTIONS, Sampler
from grid.spec.search import Search
from grid.spec.spec import SpecError, parse_spec
from tests.grid.test_life_cycle import SEARCH, World, optuna_run

BLOCK: dict[str, Any] = SEARCH["methods"][0]  # type: ignore[index]
GOALS = ["average_accuracy", "worst_group_accuracy"]


def searched(
    folder: Path, name: str = "t", trials: int = 24, seeds: tuple[int, ...] = (0, 1), **search: Any
) -> World:
    told = {"kind": "optuna", "trials": trials, "seed": 0, **search}
    return World(folder, **{**SEARCH, "name": name, "seeds": list(seeds), "search": told})


def two_goals(task: Any) -> dict[tuple[str, str], float]:
    """More of one is less of the other; the gap on train is small where lambda is."""
    x = task.method.lambda_concept
    return {
        ("average_accuracy", "val"): x,
        ("worst_group_accuracy", "val"): 1 - x**2,
        ("gap", "train"): x / 10 + task.seed / 100,
        ("gap", "test"): -1.0,
    }


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[optuna.Study]:
    """Every study that is made."""
    found: list[optuna.Study] = []
    make = optuna.create_study

    def kept(**given: Any) -> optuna.Study:
        found.append(make(**given))
        return found[-1]

    monkeypatch.setattr(optuna, "create_study", kept)
    return found


@pytest.mark.parametrize("metric", ["average_accuracy", GOALS], ids=["one goal", "two"])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_sampler_runs_its_budget_and_goes_on_where_it_stopped(
    tmp_path: Path, name: str, metric: str | list[str]
) -> None:
    world = searched(tmp_path, metric=metric, sampler=name)
    optuna_run(world, stop_after=5, outcome=two_goals)
    assert len(world.executed) == 10
    optuna_run(world, outcome=two_goals)
    assert len(world.executed) == len(set(world.executed)) == 24
    assert world.plan().to_run == []


def test_goals_are_told_as_means_over_seeds_each_in_its_direction(
    tmp_path: Path, studies: list[optuna.Study]
) -> None:
    world = searched(tmp_path, metric=[*GOALS, "gap_on_val"], mode=["max", "max", "min"])

    def outcome(task: Any) -> dict[tuple[str, str], float]:
        return two_goals(task) | {("gap_on_val", "val"): float(task.seed)}

    # a metric that no method is known to report is refused before anything runs
    with pytest.raises(SpecError, match=r"search\.metric = 'gap_on_val'"):
        world.plan()
    world.content["search"]["metric"] = [*GOALS, "adjusted_average_accuracy"]
    optuna_run(
        world, outcome=lambda task: outcome(task) | {("adjusted_average_accuracy", "val"): float(task.seed)}
    )
    (study,) = studies
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]
    assert len(study.trials) == 12
    for trial in study.trials:
        x = trial.params["methods.0.lambda_concept"]
        assert trial.values == pytest.approx([x, 1 - x**2, 0.5])


def test_a_condition_is_of_the_worst_trial_and_never_of_the_test_split(
    tmp_path: Path, studies: list[optuna.Study]
) -> None:
    world = searched(
        tmp_path, metric=GOALS, where={"gap": "<= 5e-2", "average_accuracy": ">= 0.2"}, sampler="nsga2"
    )
    optuna_run(world, stop_after=8, outcome=two_goals)
    optuna_run(world, outcome=two_goals)
    first, second = studies
    distinct = {tuple(round(value, 9) for value in trial.params.values()) for trial in second.trials}
    assert len(distinct) == 12, "what it begins anew and proposes again is answered from the store"
    for trial in [*first.trials[:8], *second.trials]:
        x = trial.params["methods.0.lambda_concept"]
        assert trial.constraints == pytest.approx({"gap": x / 10 + 0.01 - 0.05, "average_accuracy": 0.2 - x})


def test_without_a_number_for_a_condition_a_configuration_is_told_as_failed(
    tmp_path: Path, studies: list[optuna.Study]
) -> None:
    world = searched(tmp_path, metric=GOALS, where={"sparsity": ">= 0.5"}, trials=4)
    optuna_run(world, outcome=two_goals)
    assert {trial.state.name for trial in studies[0].trials} == {"FAIL"}


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            {"metric": "test_average_accuracy"},
            "search.metric = 'test_average_accuracy': numbers of the test split",
        ),
        ({"selection": "test"}, "search.selection = 'test': numbers of the test split are never"),
        ({"where": {"test_gap": "<= 1"}}, "search.where = 'test_gap': numbers of the test split"),
        ({"where": {"gap": "< 1"}}, 'search.where.gap = \'< 1\': expected "<= NUMBER" or ">= NUMBER"'),
        ({"where": {"gap": "<= 1e999"}}, "search.where.gap = '<= 1e999'"),
        ({"where": {"gap": "<= 1"}, "sampler": "qmc"}, "search.where: qmc looks at no condition"),
        ({"metric": ["a", "a"]}, "a goal is given twice"),
        ({"metric": ["a", "b"], "mode": ["max"]}, "search.mode has 1 values for 2 metrics"),
        ({"sampler": "cmaes"}, "search.sampler.name = 'cmaes'"),
        ({"sampler": {"name": "tpe", "population_size": 3}}, "unknown option of tpe 'population_size'"),
        (
            {"sampler": {"name": "tpe", "n_startup_trial": 3}},
            "unknown key 'search.sampler.n_startup_trial'; did you",
        ),
        (
            {"sampler": {"name": "tpe", "n_startup_trials": "3"}},
            "search.sampler.n_startup_trials = '3': expected a",
        ),
        ({"sampler": {"name": "random", "seed": 3}}, "unknown key 'search.sampler.seed'"),
        ({"kind": "random", "sampler": "gp"}, "search.sampler is of kind: optuna alone"),
        ({"kind": "random", "metric": ["a", "b"]}, "several goals need kind: optuna"),
        ({"trials": "12"}, "search.trials = '12': expected a number"),
    ],
)
def test_what_no_search_can_go_by(search: dict[str, Any], said: str) -> None:
    content = {"name": "t", "datasets": ["toybirds"], "methods": [BLOCK]}
    with pytest.raises(SpecError) as error:
        parse_spec({**content, "search": {"kind": "optuna", "trials": 4, **search}}, "t.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["grid", "random", "optuna"])
def test_a_search_as_it_is_stored_with_a_launch_is_read_again(kind: str) -> None:
    given: dict[str, Any] = {"kind": kind} | ({} if kind == "grid" else {"trials": 4})
    if kind == "optuna":
        given |= {"metric": GOALS, "where": {"gap": "<= 1"}, "sampler": {"name": "tpe", "group": True}}
    search = Search.model_validate(given)
    assert Search.model_validate(search.model_dump(mode="json")) == search


@pytest.mark.parametrize("name", list(OPTIONS))
def test_options_are_those_of_optunas_own_sampler(name: str) -> None:
    own = type(sampler_of(Search(kind="optuna", trials=1, sampler=Sampler(name=name))))  # type: ignore[arg-type]
    parameters = inspect.signature(own.__init__).parameters
    assert set(OPTIONS[name]) <= set(parameters)
    given = {"population_size": 7} if name == "nsga2" else {}
    sampler_of(Search(kind="optuna", trials=1, sampler=Sampler(name=name, **given)))  # type: ignore[arg-type]


def warm(world: World) -> World:
    """The world as its plan is told of other experiments."""
    plain = world.plan

    def told() -> Any:
        plan = plain()
        planner = Planner(plan.planner._hashes, plan.spec.on_failed, plan.spec.resources)
        with world.results.reading() as connection:
            found = tuple(warm_starts(plan, planner, connection))
        object.__setattr__(plan, "warm", found)
        return plan

    world.plan = told  # type: ignore[method-assign]
    return world


def test_a_search_is_told_of_other_experiments_and_pays_its_whole_budget(
    tmp_path: Path, studies: list[optuna.Study]
) -> None:
    before = searched(tmp_path, "before", seeds=(0, 1, 2), trials=18)
    optuna_run(before, outcome=two_goals)
    world = warm(searched(tmp_path, "now", seed=1, metric=GOALS, warm_start=True, where={"gap": "<= 0.05"}))
    world.results, world.store = before.results, before.store
    plan = world.plan()
    assert (len(plan.warm), plan.warm_from, plan.done) == (6, ["before"], 0)
    assert plan.as_json()["warm_start"] == {"configurations": 6, "experiments": ["before"]}
    optuna_run(world, outcome=two_goals)
    assert len(world.executed) == 24, "none of the budget went to what was told"
    told = studies[-1].trials[:6]
    by_params = {round(t.params["methods.0.lambda_concept"], 9): t.params for t in studies[0].trials}
    for trial in told:
        x = trial.params["methods.0.lambda_concept"]
        assert trial.values == pytest.approx([x, 1 - x**2])
        assert trial.constraints == pytest.approx({"gap": x / 10 + 0.02 - 0.05}), "over the three seeds there"
        assert trial.params == pytest.approx(by_params[round(x, 9)])
    again = world.plan()
    assert again.to_run == []
    assert len(again.warm) == 6


@pytest.mark.parametrize("change", ["data", "version", "space", "metric", "off"])
def test_what_is_no_memory_of_this_search(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = searched(tmp_path, "before", trials=8)
    optuna_run(before)
    world = warm(searched(tmp_path, "now", warm_start=change != "off"))
    world.results = before.results
    if change == "data":
        world.fingerprint = "other"
    elif change == "version":
        monkeypatch.setattr(SegMilCbm, "VERSION", SegMilCbm.VERSION + 1)
    elif change == "space":
        world.content["methods"] = [{**BLOCK, "k_top": [4, 6]}]
    elif change == "metric":
        world.content["search"]["metric"] = "worst_group_accuracy"
    assert world.plan().warm == ()


def test_the_plan_says_what_the_search_is_told_of(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    before = searched(tmp_path, "before", trials=8)
    optuna_run(before)
    world = warm(searched(tmp_path, "now", warm_start=True))
    world.results = before.results
    text = StringIO()
    show_plan(world.plan(), Console(file=text, width=200))
    assert "warm start: the search is told of 4 configurations of before" in text.getvalue()
