"""What `select` in a spec changes: whose numbers stand in tables, against a choice that the test makes itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel
from typer.testing import CliRunner, Result

from analysis.cli import app
from analysis.page.report import write_report
from analysis.protocol import best
from grid.results.store import ResultsStore
from grid.spec.spec import SpecError, load_spec
from tests.analysis.choice.made_up import enter, trial

WORST, AVERAGE = "worst_group_accuracy", "average_accuracy"
RULES = ("last", "val_average", "val_worst_group")
SEEDS = range(3)
# by rule of the weights: on validation the worst group and the average of k = 1, 2, 3
VALIDATION = {
    "last": {WORST: (0.8, 0.4, 0.3), AVERAGE: (0.80, 0.95, 0.90)},
    "val_average": {WORST: (0.6, 0.9, 0.3), AVERAGE: (0.85, 0.90, 0.99)},
    "val_worst_group": {WORST: (0.5, 0.7, 0.6), AVERAGE: (0.99, 0.80, 0.85)},
}
CHOSEN = {  # k of m by what the spec selects by, and the number that is compared
    ("last", WORST): 1,
    ("last", AVERAGE): 2,
    ("val_average", WORST): 3,
    ("val_average", AVERAGE): 3,
    ("val_worst_group", WORST): 2,
    ("val_worst_group", AVERAGE): 2,
}
Scores = dict[tuple[str, int, str, str], np.ndarray]


def made() -> tuple[list[dict[str, Any]], Scores]:
    """Trials of `m`, which has every rule, and of `standard`, which has `last` alone; and by method, k, rule and
    metric the numbers on the test split, a drawn one for each seed."""
    random = np.random.default_rng(0)
    trials, scores = [], Scores()
    for method, ks, rules in (("m", (1, 2, 3), RULES), ("standard", (1,), ("last",))):
        for k in ks:
            for rule in rules:
                for metric in (WORST, AVERAGE):
                    scores[method, k, rule, metric] = random.uniform(0.2, 0.9, len(SEEDS))
            for seed in SEEDS:
                noise = (0.01, 0.0, -0.01)[seed]
                numbers = {
                    **{
                        (metric, "val", rule): VALIDATION[rule][metric][k - 1] - 0.2 * (method == "standard") + noise
                        for rule in rules for metric in (WORST, AVERAGE)
                    },
                    **{
                        (metric, "test", rule): scores[method, k, rule, metric][seed]
                        for rule in rules for metric in (WORST, AVERAGE)
                    },
                }  # fmt: skip
                groups = {(name, rule): seed / 10 + k / 100 for name in ("land", "water") for rule in rules}
                trials.append(trial(method, k, seed, numbers, groups=groups))
    return trials, scores


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/results.db"


def called(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--results", url])


def rows(url: str, *arguments: str) -> list[dict[str, Any]]:
    result = called(url, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def filled(url: str, spec: str) -> Scores:
    trials, scores = made()
    store = ResultsStore.open(url)
    enter(store, trials, spec)
    store.close()
    return scores


@pytest.mark.parametrize("by", RULES)
def test_a_comparison_takes_weights_and_configuration_as_the_spec_says(sqlite: str, by: str) -> None:
    scores = filled(sqlite, f"select: {{by: {by}}}")
    for metric in (WORST, AVERAGE):
        (row,) = rows(sqlite, "compare", "e", "standard", "m", "--metric", metric)
        k = CHOSEN[by, metric]
        a, b = scores["standard", 1, "last", metric], scores["m", k, by, metric]
        assert (row["mean_a"], row["mean_b"]) == pytest.approx((a.mean(), b.mean())), metric
        expected = ttest_rel(b, a).confidence_interval()
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(np.clip(expected, -1, 1))
        assert (row["selection_a"], row["selection_b"]) == ("last", by)
    told = called(sqlite, "compare", "e", "standard", "m").stdout
    assert f"chosen by {by}, as experiment e's spec says" in told
    assert ("standard has only last" in told) == (by != "last")
    assert "m has only" not in told


@pytest.mark.parametrize("by", RULES)
def test_the_leaderboard_has_the_named_weights_and_marks_what_is_chosen(sqlite: str, by: str) -> None:
    scores = filled(sqlite, f"select: {{by: {by}}}")
    table = rows(sqlite, "leaderboard", "--experiment", "e")
    assert len(table) == 4
    for row in table:
        k = int(row["knobs"].removeprefix("k=") or 1)
        rule = by if row["method"] == "m" else "last"
        assert row["selection"] == rule
        for metric in (WORST, AVERAGE):
            assert row[metric] == pytest.approx(scores[row["method"], k, rule, metric].mean())
        assert row["chosen"] == (row["method"] == "standard" or k == CHOSEN[by, WORST])
    shown = called(sqlite, "leaderboard", "--experiment", "e", "--limit", "1").stdout
    assert f"test, selection {by}\n" in shown
    assert f"chosen by {by}, as experiment e's spec says" in shown
    everything = rows(sqlite, "leaderboard")
    assert {row["selection"] for row in everything} == {"last"}, "no experiment, no spec"


def test_other_tables_have_the_named_weights_and_say_so(fresh: str) -> None:
    scores = filled(fresh, "select: {by: val_worst_group}")
    for asked in (
        ["scores", "e", "--metric", WORST], ["pareto", "e", "--beaten"], ["groups", "e"], ["ablation", "e"]
    ):  # fmt: skip
        table = rows(fresh, *asked)
        rules = {"m": {"val_worst_group"}, "standard": {"last"}}
        assert table, asked
        for row in table:
            assert row["selection"] in rules[row["method"]], asked
        assert "chosen by val_worst_group, as experiment e's spec says" in called(fresh, *asked).stdout
    by_k = {row["value"]: row["mean"] for row in rows(fresh, "ablation", "e")}
    assert by_k == {str(k): pytest.approx(scores["m", k, "val_worst_group", WORST].mean()) for k in (1, 2, 3)}
    differences = ttest_rel(
        scores["m", 3, "val_worst_group", WORST], scores["m", 1, "val_worst_group", WORST]
    )
    (third,) = (row for row in rows(fresh, "ablation", "e") if row["value"] == "3")
    assert third["p"] == pytest.approx(differences.pvalue)


def test_a_baseline_with_several_configurations_is_the_one_that_is_chosen(sqlite: str) -> None:
    filled(sqlite, "select: {by: val_worst_group}")
    table = rows(sqlite, "groups", "e", "--baseline", "m")
    assert {row["baseline"] for row in table} == {"m"}
    (of_base,) = {row["config_id"] for row in table if row["knobs"] == "k=2"}
    assert {row["baseline_id"] for row in table} == {of_base}
    (third, _) = (row for row in table if row["knobs"] == "k=3")
    assert third["difference"] == pytest.approx(0.01)
    assert f"m {of_base[:8]}" in called(sqlite, "groups", "e", "--baseline", "m").stdout


def test_an_option_wins_and_the_line_says_so(sqlite: str) -> None:
    scores = filled(sqlite, "select: {by: val_worst_group}")
    asked = ["compare", "e", "standard", "m", "--selection", "last"]
    (row,) = rows(sqlite, *asked)
    k = 1 + int(np.argmax(VALIDATION["last"][WORST]))
    assert row["mean_b"] == pytest.approx(scores["m", k, "last", WORST].mean())
    told = called(sqlite, *asked).stdout
    assert "weights by last, as --selection says" in told
    assert f"a method's configuration by {WORST} on val, as experiment e's spec says" in told
    assert "has only" not in told
    missing = called(sqlite, "compare", "e", "standard", "m", "--selection", "val_average")
    assert missing.exit_code == 2, "standard has no such weights, and was not asked for others"


@pytest.mark.parametrize("spec", ["", "name: e\n", "select: null\n", "- no mapping", "select: ["])
def test_a_spec_that_says_nothing_changes_nothing(sqlite: str, spec: str) -> None:
    url, scores = sqlite, filled(sqlite, spec)
    (row,) = rows(url, "compare", "e", "standard", "m")
    assert row["mean_b"] == pytest.approx(scores["m", 1, "last", WORST].mean())
    for asked in (["compare", "e", "standard", "m"], ["leaderboard", "--experiment", "e"], ["groups", "e"]):
        assert "chosen" not in called(url, *asked).stdout
    assert "chosen" not in rows(url, "leaderboard", "--experiment", "e")[0]


def test_the_newest_launch_counts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    filled(url, "select: {by: val_average}")
    store = ResultsStore.open(url)
    store.begin_launch("e", spec="select: {by: val_worst_group}", plan={}, command="")
    (row,) = rows(url, "compare", "e", "standard", "m")
    assert row["selection_b"] == "val_worst_group"


@pytest.mark.parametrize(("by", "metric"), [("val_worst_group", WORST), ("val_average", AVERAGE)])
def test_the_report_says_and_follows_it(tmp_path: Path, by: str, metric: str) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    scores = filled(url, f"select: {{by: {by}}}")
    store = ResultsStore.open(url)
    write_report(store, "e", tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text().replace("&#39;", "'")
    k = CHOSEN[by, WORST]
    b, a = scores["m", k, by, WORST], scores["standard", 1, "last", WORST]
    shown = f"{b.mean():.3f}" if metric == WORST else f"{b.mean():.3f} by worst group accuracy"
    verdict = (
        f"Best on validation by {metric.replace('_', ' ')}: m (k={k}). On the test split it has {shown}, "
        f"{(b - a).mean():+.3f} "
    )
    assert verdict in page
    for line in (
        f"chosen by {by}, as experiment e's spec says", "standard has only last", f"Test split, weights by {by}."
    ):  # fmt: skip
        assert line in page


def test_over_several_drawings_the_report_takes_the_configuration_that_is_best_on_all(
    sqlite: str, tmp_path: Path
) -> None:
    """k = 1 is the best on one drawing, k = 2 on the mean of both."""
    val = {("m", 1): (0.9, 0.1), ("m", 2): (0.6, 0.6), ("standard", 1): (0.2, 0.2)}
    test = {("m", 1): (0.95, 0.15), ("m", 2): (0.7, 0.5), ("standard", 1): (0.3, 0.2)}
    trials = [
        trial(*cell, seed, {(WORST, "val", "last"): val[cell][d], (WORST, "test", "last"): test[cell][d]},
              drawing=f"d{d}", generator={"seed": d})
        for cell in val for seed in SEEDS for d in (0, 1)
    ]  # fmt: skip
    store = ResultsStore.open(sqlite)
    enter(store, trials)
    write_report(store, "e", tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text()
    assert "m (k=2). On the test split it has 0.600, +0.350 [" in page
    assert "to standard (0.250), paired over 2 drawings of the data." in page
    assert page.count('<tr class="best">') == 2, "its row on each drawing"


@pytest.mark.parametrize(("tie", "k"), [("knobs", 1), ("fastest", 2)])
def test_ties_go_by_the_rule_of_the_spec(tmp_path: Path, tie: str, k: int) -> None:
    """Validation numbers are equal but for the order in which seeds were added; k = 3 is fastest, and worse."""
    url, by = f"sqlite:///{tmp_path}/results.db", "val_worst_group"
    seconds = {1: (2.0, 2.0, 2.0), 2: (1.0, 1.0, 3.0), 3: (0.1, 0.1, 0.1)}
    val = {1: (0.1, 0.2, 0.3), 2: (0.3, 0.2, 0.1), 3: (0.1, 0.2, 0.3 - 3e-11)}
    assert sum(val[1]) != sum(val[2]), "as floats they differ"
    trials = [
        trial("m", k, seed, {(WORST, "val", by): val[k][seed], (WORST, "test", by): k / 10},
              seconds=seconds[k][seed])
        for k in val for seed in SEEDS
    ]  # fmt: skip
    trials += [trial("standard", 1, seed, {(WORST, "test", "last"): 0.0}) for seed in SEEDS]
    store = ResultsStore.open(url)
    enter(store, trials, f"select: {{by: {by}, tie: {tie}}}")
    (row,) = rows(url, "compare", "e", "standard", "m")
    assert row["mean_b"] == pytest.approx(k / 10)
    assert ("among equals the fastest" in called(url, "compare", "e", "standard", "m").stdout) == (k == 2)


def test_seconds_that_are_not_known_are_the_most() -> None:
    table = pd.DataFrame({"score": [1.0, 1.0, 0.5], "seconds": [np.nan, 9.0, 1.0]}, index=["a", "b", "c"])
    assert (best(table), best(table, "fastest")) == ("a", "b")


def test_a_number_that_is_none_is_not_replaced_by_one_of_other_weights(fresh: str) -> None:
    """Training diverged under the named rule; `last` has a number, and it is the best one."""
    by = "val_worst_group"
    trials = []
    for k, own in ((1, 0.5), (2, float("nan"))):
        for seed in SEEDS:
            value = {(WORST, split, by): own for split in ("val", "test")}
            trials.append(trial("m", k, seed, value | {(WORST, s, "last"): 0.9 for s in ("val", "test")}))
    trials += [trial("standard", 1, seed, {(WORST, "test", "last"): 0.4}) for seed in SEEDS]
    trials += [trial("m", 3, seed, None) for seed in SEEDS]
    store = ResultsStore.open(fresh)
    enter(store, trials, f"select: {{by: {by}}}")
    store.close()
    (row,) = rows(fresh, "compare", "e", "standard", "m")
    assert (row["mean_b"], row["selection_b"], row["chosen_b_from"]) == (pytest.approx(0.5), by, 1)
    table = {row["knobs"]: row for row in rows(fresh, "leaderboard", "--experiment", "e", "--method", "m")}
    assert [table[f"k={k}"][WORST] for k in (1, 2, 3)] == [pytest.approx(0.5), None, None]
    assert [table[f"k={k}"]["n"] for k in (1, 2, 3)] == [3, 0, 0]
    assert [table[f"k={k}"]["selection"] for k in (1, 2, 3)] == [by] * 3
    assert [table[f"k={k}"]["seeds_failed"] for k in (1, 2, 3)] == [0, 0, 3]


def test_where_some_configurations_lack_the_rule_it_is_said_how_many(tmp_path: Path) -> None:
    url, by = f"sqlite:///{tmp_path}/results.db", "val_average"
    trials = [
        trial("m", k, 0, {(AVERAGE, split, rule): k / 10 for split in ("val", "test") for rule in rules})
        for k, rules in ((1, ["last", by]), (2, ["last", by]), (3, ["last"]))
    ]
    enter(ResultsStore.open(url), trials, f"select: {{by: {by}}}")
    told = called(url, "leaderboard", "--experiment", "e").stdout
    assert "m, 1 of its 3 configurations, has only last" in told


SPEC = "name: t\ndatasets: [toybirds]\nmethods: [{method: standard}]\n"


@pytest.mark.parametrize("by", ["test_worst_group", "test", "lf_original_test"])
def test_numbers_of_the_test_split_select_nothing(tmp_path: Path, by: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(SPEC + f"select: {{by: {by}}}\n")
    with pytest.raises(SpecError, match="numbers of the test split are never used to select") as caught:
        load_spec(path)
    assert f"select.by = '{by}'" in str(caught.value)
    assert "\n" not in str(caught.value)
    url = f"sqlite:///{tmp_path}/results.db"
    filled(url, f"select: {{by: {by}}}")
    for asked in (["compare", "e", "standard", "m"], ["leaderboard", "--experiment", "e"], ["report", "e"]):
        refused = called(url, *asked)
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert "never used to select" in refused.stderr


def test_specs_say_it_or_not(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(SPEC)
    assert load_spec(path).select is None
    path.write_text(SPEC + "select: {by: val_average}\n")
    select = load_spec(path).select
    assert select is not None
    assert (select.by, select.tie) == ("val_average", "knobs")
    for wrong, says in (
        ("{tie: first}", "select.tie = 'first': input should be 'knobs' or 'fastest'"),
        ("{by: best}", "select.by = 'best': input should be 'last', 'val_average' or 'val_worst_group'"),
        ("{bye: last}", "did you mean 'select.by'"),
    ):
        path.write_text(SPEC + f"select: {wrong}\n")
        with pytest.raises(SpecError) as caught:
            load_spec(path)
        assert says in str(caught.value)
