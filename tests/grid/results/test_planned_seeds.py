"""Planned seeds are counted: one that failed or diverged shows in every view, and so does a lost configuration.
What only an earlier form of an experiment asked for is in none of them."""

import math
from typing import Any

import pandas as pd
import pytest

from grid.results.store import ResultsStore, TrialEntry
from tests.grid.results.test_views import query

NAN = math.nan
FAILED, PENDING, STOPPED = "failed", "pending", "stopped"
WORST = "metric = 'worst_group_accuracy' AND split = 'test' AND selection = 'last'"
# k -> what the seeds 0, 1, 2 came to
OUTCOMES: dict[int, tuple[Any, ...]] = {
    1: (0.5, 0.6, 0.7),
    2: (0.5, NAN, 0.7),
    3: (FAILED, FAILED, FAILED),
    4: (NAN, NAN, math.inf),
    5: (0.5, FAILED, PENDING),
}


def fill(store: ResultsStore, outcomes: dict[int, tuple[Any, ...]], experiment: str = "e") -> None:
    launch = store.begin_launch(experiment, spec="", plan={}, command="")
    for k, seeds in outcomes.items():
        for seed, outcome in enumerate(seeds):
            enter(store, launch, k, seed, outcome, experiment)


def enter(store: ResultsStore, launch: int, k: int, seed: int, outcome: Any, experiment: str) -> None:
    entry = TrialEntry(
        id=f"k{k}-{seed}", method="m", method_version=1, dataset="toybirds", data_fingerprint="f",
        seed=seed, config={"k": k, "fixed": 1},
    )  # fmt: skip
    store.enter(experiment, [entry])
    if outcome == PENDING:
        return
    attempt = store.claim(entry.id, launch)
    if outcome == FAILED:
        store.fail(entry.id, "ValueError: no")
        return
    if outcome == STOPPED:
        curve = [
            {"name": "average_accuracy", "value": 0.9, "split": "val", "step": step} for step in range(2)
        ]
        early = {"step": 2, "value": 0.9, "metric": "val_average_accuracy", "metrics": curve}
        assert store.stop(entry.id, {**early, "attempt": attempt, "seconds": 1.0, "provenance": {}})
        return
    names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
    metrics = [{"name": n, "value": outcome, "split": "test", "group": "all"} for n in names]
    done = {"attempt": attempt, "metrics": metrics, "n_failed": 0, "on_failed": "wrong", "seconds": 1.0,
            "provenance": {}}  # fmt: skip
    assert store.finish(entry.id, done)


def rows(table: pd.DataFrame, *columns: str) -> list[list[Any]]:
    return table[list(columns)].astype(object).where(table[list(columns)].notna(), None).values.tolist()


def test_the_leaderboard_counts_planned_failed_and_diverged_seeds_and_lists_what_is_lost(
    store: ResultsStore,
) -> None:
    fill(store, OUTCOMES)
    order = "WHERE split = 'test' AND selection = 'last' ORDER BY config"
    view = query(store, f"SELECT * FROM leaderboard {order}")
    mean = pytest.approx(0.6)
    assert rows(view, "n", "n_planned", "seeds_failed", "seeds_nan", "worst_group_accuracy") == [
        [3, 3, 0, 0, mean],
        [2, 3, 0, 1, mean],
        [0, 3, 3, 0, None],
        [0, 3, 0, 3, None],
        [1, 3, 1, 0, pytest.approx(0.5)],
    ]
    assert view["worst_group_accuracy_ci_low"].isna().tolist() == [False, False, True, True, True]
    assert view["on_failed"].isin(["wrong", None]).all(), "what has no trial is not mixed"


def test_score_and_what_is_beside_published_numbers_say_the_same(store: ResultsStore) -> None:
    fill(store, OUTCOMES)
    published = {
        "paper": "p", "table_name": "1", "row_name": "r", "setting": "", "split": "test", "dataset": "toybirds",
        "method": "m", "metric": "worst_group_accuracy", "selection": "last", "value": 0.75,
    }  # fmt: skip
    store.record_references([published])
    for view, where in (("score", f"WHERE {WORST}"), ("reported_vs_measured", "")):
        found = query(store, f"SELECT * FROM {view} {where} ORDER BY config")
        counts = rows(found, "n", "n_planned", "seeds_failed", "seeds_nan")
        assert counts == [[3, 3, 0, 0], [2, 3, 0, 1], [0, 3, 3, 0], [0, 3, 0, 3], [1, 3, 1, 0]], view


def test_an_ablation_lists_values_whose_trials_are_lost(store: ResultsStore) -> None:
    fill(store, OUTCOMES)
    view = query(store, f"SELECT * FROM ablation WHERE {WORST} ORDER BY value")
    counts = rows(view, "value", "n", "n_planned", "trials_failed", "trials_nan")
    one = [["1", 1, 3, 0, 0], ["2", 1, 3, 0, 1]]  # only seed 0 has a number for each of 1, 2 and 5
    assert counts == [*one, ["3", 0, 3, 3, 0], ["4", 0, 3, 0, 3], ["5", 1, 3, 1, 0]]
    assert view["mean"].isna().tolist() == [False, False, True, True, False]
    assert rows(view, "place") == [[1], [2], [None], [None], [3]]


def test_an_ablation_with_one_value_that_works_still_tells_of_the_other(store: ResultsStore) -> None:
    fill(store, {1: (0.5, 0.6, 0.7), 2: (FAILED, FAILED, FAILED)})
    view = query(store, f"SELECT * FROM ablation WHERE {WORST} ORDER BY value")
    assert rows(view, "value", "n", "trials_failed", "mean") == [
        ["1", 3, 0, pytest.approx(0.6)],
        ["2", 0, 3, None],
    ]
    assert view["difference"].isna().all()


def test_a_method_whose_trials_all_failed_everywhere_is_listed(store: ResultsStore) -> None:
    fill(store, {1: (FAILED, FAILED)})
    view = query(store, "SELECT * FROM leaderboard WHERE split = 'test' AND selection = 'last'")
    assert rows(view, "method", "n", "n_planned", "seeds_failed") == [["m", 0, 2, 2]]


def test_seeds_that_were_stopped_early_are_planned_neither_done_nor_failed_and_in_no_mean(
    store: ResultsStore,
) -> None:
    fill(store, {1: (0.5, 0.6, 0.7), 2: (0.5, STOPPED, 0.9), 3: (STOPPED, STOPPED, STOPPED)})
    counts = ("n", "n_planned", "seeds_failed", "seeds_stopped", "seeds_nan")
    whole, partly = [3, 3, 0, 0, 0], [2, 3, 0, 1, 0]
    view = query(store, "SELECT * FROM leaderboard WHERE split = 'test' ORDER BY config")
    assert rows(view, *counts) == [whole, partly], "what never ended is in no table of results"
    assert view["worst_group_accuracy"].tolist() == pytest.approx([0.6, 0.7])
    assert rows(query(store, f"SELECT * FROM score WHERE {WORST} ORDER BY config"), *counts) == [
        whole,
        partly,
    ]
    assert query(store, "SELECT * FROM score WHERE split = 'val'").empty, "curves are no scores"
    ablation = query(store, f"SELECT * FROM ablation WHERE {WORST} ORDER BY value")
    columns = ("value", "n", "trials", "n_planned", "trials_failed", "trials_stopped", "mean")
    assert rows(ablation, *columns) == [
        ["1", 2, 2, 3, 0, 0, pytest.approx(0.6)],  # seeds 0 and 2 alone have both values
        ["2", 2, 2, 3, 0, 1, pytest.approx(0.7)],
        ["3", 0, 0, 3, 0, 3, None],
    ]


def test_what_has_not_run_yet_is_not_listed_as_lost(store: ResultsStore) -> None:
    fill(store, {1: (PENDING, PENDING), 2: (0.5, PENDING)})
    view = query(store, "SELECT * FROM leaderboard WHERE split = 'test'")
    assert rows(view, "n", "n_planned", "seeds_failed", "seeds_nan") == [[1, 2, 0, 0]]


def test_trials_of_an_earlier_form_are_out_of_the_views_and_in_those_by_form(store: ResultsStore) -> None:
    fill(store, {1: (0.5, 0.6, 0.7), 2: (0.5, 0.6, 0.9)})
    store.set_form("e", ["k1-0", "k1-1", "k2-0"])
    view = query(store, "SELECT * FROM leaderboard WHERE split = 'test' ORDER BY config")
    assert rows(view, "n", "n_planned", "worst_group_accuracy") == [
        [2, 2, pytest.approx(0.55)],
        [1, 1, pytest.approx(0.5)],
    ]
    both = query(store, "SELECT * FROM leaderboard_by_form WHERE split = 'test' ORDER BY form, config")
    assert rows(both, "form", "n", "worst_group_accuracy") == [
        ["earlier", 1, pytest.approx(0.7)],
        ["earlier", 2, pytest.approx(0.75)],
        ["present", 2, pytest.approx(0.55)],
        ["present", 1, pytest.approx(0.5)],
    ]
    ablation = query(store, f"SELECT * FROM ablation WHERE {WORST} ORDER BY value")
    assert rows(ablation, "n", "n_planned", "mean") == [[1, 2, 0.5], [1, 1, 0.5]]


def test_a_trial_that_another_experiment_asks_for_stays_in_the_leaderboard(store: ResultsStore) -> None:
    fill(store, {1: (0.5, 0.6, 0.7)})
    store.enter("other", [TrialEntry(id="k1-2", method="m", method_version=1, dataset="toybirds",
                                     data_fingerprint="f", seed=2, config={"k": 1, "fixed": 1})])  # fmt: skip
    store.set_form("e", ["k1-0"])
    view = query(store, "SELECT * FROM leaderboard WHERE split = 'test'")
    assert rows(view, "n", "n_planned", "worst_group_accuracy") == [[2, 2, pytest.approx(0.6)]]


def test_the_summary_of_an_experiment_names_trials_without_a_number(store: ResultsStore) -> None:
    fill(store, {2: (0.5, NAN, FAILED)})
    summary = store.experiment_summary("e")
    assert summary["trials"] == {"done": 2, "failed": 1}
    assert list(summary["failures"]) == ["k2-2"]
    assert summary["no_number"] == {
        "k2-1": [f"{n} (test, last)" for n in ("worst_group_accuracy", "average_accuracy",
                                               "adjusted_average_accuracy")]
    }  # fmt: skip
