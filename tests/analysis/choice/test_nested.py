"""Nested cross-validation over drawings, against a loop over folds and SciPy; and what it is for, on a model in
which the truth is known."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm, ttest_1samp
from typer.testing import CliRunner, Result

from analysis.cli import app
from analysis.nested import choices
from grid.results.store import ResultsStore
from tests.analysis.choice.made_up import enter, trial
from tests.grid.results.fraction_interval import fraction_interval

WORST, AVERAGE = "worst_group_accuracy", "average_accuracy"
DRAWINGS, SEEDS, KS = ("d0", "d1", "d2", "d3"), range(3), (1, 2, 3)
Values = dict[tuple[str, int, str, str], np.ndarray]  # by method, k, drawing and split: one for each seed


def made(rule: str = "last") -> tuple[list[dict[str, Any]], Values]:
    random = np.random.default_rng(3)
    cells = [(method, k) for method, ks in (("m", KS), ("standard", (1,))) for k in ks]
    values = {
        (*cell, drawing, split): random.uniform(0.2, 0.9, len(SEEDS))
        for cell in cells
        for drawing in DRAWINGS
        for split in ("val", "test")
    }
    trials = [
        trial(
            method, k, seed, {(WORST, split, rule): values[method, k, drawing, split][seed] for split in ("val", "test")},
            drawing=drawing,
        )
        for method, k in cells for drawing in DRAWINGS for seed in SEEDS
    ]  # fmt: skip
    return trials, values


def called(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["nested", *arguments, "--results", url])


def rows(url: str, *arguments: str) -> list[dict[str, Any]]:
    result = called(url, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/results.db"


def filled(url: str, trials: list[dict[str, Any]], spec: str = "", experiment: str = "e") -> str:
    store = ResultsStore.open(url)
    enter(store, trials, spec, experiment)
    store.close()
    return url


def by_a_loop(values: Values, drawing: str) -> tuple[int, int]:
    """k that the other drawings choose, and that the drawing itself chooses."""
    others = {
        k: np.mean([values["m", k, other, "val"].mean() for other in DRAWINGS if other != drawing])
        for k in KS
    }
    own = {k: values["m", k, drawing, "val"].mean() for k in KS}
    return max(KS, key=lambda k: others[k]), max(KS, key=lambda k: own[k])


def test_each_drawing_judges_what_the_others_chose(fresh: str) -> None:
    trials, values = made()
    table = rows(filled(fresh, trials), "e")
    assert [(row["method"], row["drawing"]) for row in table] == [
        (method, drawing) for method in ("m", "standard") for drawing in (*DRAWINGS, "all")
    ]
    *folds, over = table[:5]
    nested, plain, gains, often = [], [], [], []
    for row, drawing in zip(folds, DRAWINGS, strict=True):
        chosen, own = by_a_loop(values, drawing)
        numbers, base = values["m", chosen, drawing, "test"], values["standard", 1, drawing, "test"]
        assert (row["chosen"], row["plain_chosen"], row["chosen_from"]) == (f"k={chosen}", f"k={own}", 3)
        assert (row["n"], row["n_planned"], row["mean"]) == (3, 3, pytest.approx(numbers.mean()))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(fraction_interval(numbers))
        interval = ttest_1samp(numbers - base, 0).confidence_interval()
        assert row["difference"] == pytest.approx((numbers - base).mean())
        assert (row["difference_ci_low"], row["difference_ci_high"]) == pytest.approx(
            np.clip(interval, -1, 1)
        )
        nested.append(numbers.mean())
        plain.append(values["m", own, drawing, "test"].mean())
        gains.append((numbers - base).mean())
        often.append(f"k={chosen}")
        assert row["plain_gain"] == pytest.approx(plain[-1] - nested[-1])
    assert nested != plain, "the two choices differ, or the test says nothing"
    assert len(set(often)) > 1, "and so do folds"
    assert (over["n"], over["n_planned"], over["mean"]) == (4, 4, pytest.approx(np.mean(nested)))
    assert (over["ci_low"], over["ci_high"]) == pytest.approx(fraction_interval(np.array(nested)))
    for name, own in (("difference", gains), ("plain_gain", np.subtract(plain, nested))):
        interval = ttest_1samp(own, 0).confidence_interval()
        assert over[name] == pytest.approx(np.mean(own))
        assert (over[f"{name}_ci_low"], over[f"{name}_ci_high"]) == pytest.approx(np.clip(interval, -1, 1))
    for k in set(often):
        assert f"{k} ({often.count(k)} of 4)" in over["chosen"]
    assert {row["difference"] for row in table[5:]} == {None}, "the baseline is not compared with itself"


def test_people_see_the_choices_and_what_they_cost(sqlite: str) -> None:
    trials, _ = made()
    told = called(filled(sqlite, trials), "e").stdout
    assert f"{WORST} on test, nested over drawings, selection last" in told
    assert "4 drawings" in told
    assert "chosen by the others" in told
    assert "plain - nested" in told
    assert called(sqlite, "e", "--method", "m", "--csv").stdout.count("\n") == 6
    assert "\\toprule" in called(sqlite, "e", "--latex").stdout


def test_experiments_on_other_drawings_are_added(sqlite: str) -> None:
    trials, _ = made()
    together = rows(filled(sqlite, trials), "e")
    for drawing in DRAWINGS:
        filled(sqlite, [one for one in trials if one["drawing"] == drawing], experiment=f"of-{drawing}")
    added = [word for drawing in DRAWINGS[1:] for word in ("--drawing", f"of-{drawing}")]
    assert rows(sqlite, "of-d0", *added) == together
    refused = called(sqlite, "of-d0")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "birds was drawn once" in refused.stderr
    for way in ("generator: {seed: [0, 1, 2]}", "--drawing EXPERIMENT"):
        assert way in refused.stderr
    assert called(sqlite, "of-d0", "--drawing", "none").exit_code == 2
    assert called(sqlite, "e", "--dataset", "none").exit_code == 2


def test_a_baseline_is_a_method_or_a_configuration(sqlite: str) -> None:
    trials, values = made()
    table = rows(filled(sqlite, trials), "e", "--baseline", "m")
    over = table[-1]
    chosen = {drawing: by_a_loop(values, drawing)[0] for drawing in DRAWINGS}
    gains = [
        (values["standard", 1, drawing, "test"] - values["m", chosen[drawing], drawing, "test"]).mean()
        for drawing in DRAWINGS
    ]
    assert (over["method"], over["baseline"]) == ("standard", "m")
    assert over["difference"] == pytest.approx(np.mean(gains))
    one = next(row["config_id"] for row in table if row["chosen"] == f"k={chosen['d1']}")
    k = chosen["d1"]
    by_id = [row for row in rows(sqlite, "e", "--baseline", one) if row["drawing"] != "all"]
    for row, drawing in zip(by_id[:4], DRAWINGS, strict=True):
        own = values["m", chosen[drawing], drawing, "test"] - values["m", k, drawing, "test"]
        assert row["difference"] == pytest.approx(own.mean())
    refused = called(sqlite, "e", "--baseline", "none")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_the_protocol_of_the_spec_chooses(sqlite: str) -> None:
    """By the worst group, whatever is shown; and under its weights."""
    rule = "val_worst_group"
    trials, values = made(rule)
    random = np.random.default_rng(5)
    shown = {}
    for one in trials:
        key = one["method"], one["k"], one["drawing"], one["seed"]
        shown[key] = float(random.uniform())
        one["numbers"] |= {
            (AVERAGE, "test", rule): shown[key],
            (AVERAGE, "val", rule): float(random.uniform()),
        }
        one["numbers"] |= {(name, "val", "last"): float(random.uniform()) for name in (WORST, AVERAGE)}
        if one["method"] == "standard":
            one["numbers"] = {(AVERAGE, "test", "last"): shown[key]}
    filled(sqlite, trials, f"select: {{by: {rule}}}")
    table = rows(sqlite, "e", "--metric", AVERAGE)
    for row, drawing in zip(table[:4], DRAWINGS, strict=True):
        k, own = by_a_loop(values, drawing)
        assert (row["chosen"], row["plain_chosen"]) == (f"k={k}", f"k={own}")
        assert row["mean"] == pytest.approx(np.mean([shown["m", k, drawing, seed] for seed in SEEDS]))
    told = called(sqlite, "e", "--metric", AVERAGE).stdout
    assert f"chosen by {rule}, as experiment e's spec says" in told
    assert "standard has only last" in told


def test_a_method_without_validation_numbers_is_left_out_and_named(sqlite: str) -> None:
    trials, _ = made()
    for one in trials:
        if one["method"] == "m":
            del one["numbers"][WORST, "val", "last"]
    filled(sqlite, trials)
    assert {row["method"] for row in rows(sqlite, "e")} == {"standard"}, "one configuration needs none"
    assert "birds: m is left out: 0 of 4 drawings" in called(sqlite, "e").stdout
    alone = [one | {"seed": one["seed"] + 10} for one in trials if one["method"] == "m"]
    refused = called(filled(sqlite, alone, experiment="alone"), "alone")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_lost_seeds_and_numbers_do_not_count_as_chosen(sqlite: str) -> None:
    """k = 3 is the best wherever it has a number: on d1 all its seeds failed and on d2 its test is no number; k = 2
    lost a seed on d0."""
    trials = []
    for drawing in ("d0", "d1", "d2"):
        for k in KS:
            for seed in SEEDS:
                numbers: dict[tuple[str, str, str], float] | None = {
                    (WORST, "val", "last"): k / 10, (WORST, "test", "last"): k / 10 + seed / 100
                }  # fmt: skip
                if (k == 3 and drawing == "d1") or (k, drawing, seed) == (2, "d0", 0):
                    numbers = None
                elif k == 3 and drawing == "d2":
                    numbers = {(WORST, "val", "last"): 0.3, (WORST, "test", "last"): float("nan")}
                trials.append(trial("m", k, seed, numbers, drawing=drawing))
    first, second, third, over = rows(filled(sqlite, trials), "e")
    # d0: of d1 and d2, on d1 k = 3 has none, so that k = 2 is the best that both have
    assert (first["chosen"], first["chosen_from"], first["n"], first["n_planned"]) == ("k=2", 2, 2, 3)
    assert first["mean"] == pytest.approx(np.mean([0.21, 0.22]))
    assert first["plain_chosen"] == "k=3"
    # d1: the others choose k = 3, which has no number here: the drawing is lost, and not given to another
    assert (second["chosen"], second["n"], second["n_planned"], second["mean"]) == ("k=3", 0, 3, None)
    # d2: of d0 and d1 again k = 2
    assert (third["chosen"], third["n"]) == ("k=2", 3)
    assert (over["n"], over["n_planned"]) == (2, 3)
    assert over["mean"] == pytest.approx(np.mean([first["mean"], third["mean"]]))
    assert over["baseline"] is None
    assert "2 of 3 drawings" in called(sqlite, "e").stdout


def test_one_seed_has_no_interval_on_a_drawing_and_one_over_drawings(sqlite: str) -> None:
    trials, values = made()
    filled(sqlite, [one for one in trials if one["seed"] == 0])
    *folds, over = [row for row in rows(sqlite, "e") if row["method"] == "standard"]
    assert {(row["n"], row["ci_low"]) for row in folds} == {(1, None)}
    means = np.array([values["standard", 1, drawing, "test"][0] for drawing in DRAWINGS])
    assert (over["ci_low"], over["ci_high"]) == pytest.approx(fraction_interval(means))


def test_drawings_of_other_data_are_not_drawings_of_the_same(sqlite: str) -> None:
    """d0 and d1, and d2 and d3, differ in the seed; the pairs in the fog as well."""
    trials, values = made()
    for one in trials:
        number = DRAWINGS.index(one["drawing"])
        one["generator"] = {"seed": number % 2, "fog": 0.1 if number < 2 else 0.9}
    table = rows(filled(sqlite, trials), "e", "--method", "m")
    assert [row["dataset"] for row in table] == ["birds (fog=0.1)"] * 3 + ["birds (fog=0.9)"] * 3
    for drawing, other, row in zip(DRAWINGS, ("d1", "d0", "d3", "d2"), table[:2] + table[3:5], strict=True):
        k = max(KS, key=lambda k: values["m", k, other, "val"].mean())
        assert (row["drawing"], row["chosen"]) == (drawing, f"k={k}")
    assert [row["n"] for row in table if row["drawing"] == "all"] == [2, 2]
    first = [one | {"seed": one["seed"] + 20} for one in trials if one["drawing"] in ("d0", "d2")]
    refused = called(filled(sqlite, first, experiment="two"), "two")
    assert "birds (fog=0.1), birds (fog=0.9) were each drawn once" in refused.stderr


def expected_largest(k: int) -> float:
    """Mean of the largest of k standard normal numbers."""
    return float(quad(lambda x: x * k * norm.pdf(x) * norm.cdf(x) ** (k - 1), -8, 8)[0])


def test_only_the_nested_choice_is_unbiased_where_all_configurations_are_equal() -> None:
    """k equal configurations; each has an accident on each drawing, which validation and test of the drawing share,
    and noise of each split. What a drawing's own validation chooses is better on this drawing than on a new one, by
    E[largest of k] * accident² / sqrt(accident² + noise²); what the others choose is not."""
    random, truth, accident, noise, k, drawings, times = np.random.default_rng(0), 0.7, 0.03, 0.02, 6, 4, 120
    names = [f"k{i}" for i in range(k)]
    asked = {f"d{i}": names for i in range(drawings)}
    nested, plain = np.empty(times), np.empty(times)
    for number in range(times):
        shared = truth + random.normal(0, accident, (k, drawings))
        val, test = (shared + random.normal(0, noise, (k, drawings)) for _ in range(2))
        of = pd.DataFrame(val, index=names, columns=list(asked)).stack().rename_axis(["setting", "drawing"])
        found = choices(of.rename("score").reset_index().assign(seconds=1.0), asked)
        rows, columns = ({name: i for i, name in enumerate(one)} for one in (names, asked))
        for into, column in ((nested, "chosen"), (plain, "plain")):
            into[number] = np.mean([test[rows[found.loc[d, column]], columns[d]] for d in asked])
    error = {name: values.std(ddof=1) / math.sqrt(times) for name, values in (("n", nested), ("p", plain))}
    bias = expected_largest(k) * accident**2 / math.hypot(accident, noise)
    assert abs(nested.mean() - truth) < 3 * error["n"]
    assert abs(plain.mean() - truth - bias) < 3 * error["p"]
    assert plain.mean() - truth > 10 * error["p"], "so the simulation can tell them apart"


def test_where_the_best_configuration_is_clear_nothing_is_lost() -> None:
    table = pd.DataFrame(
        [
            {"setting": name, "drawing": drawing, "score": score, "seconds": 1.0}
            for name, score in (("a", 0.5), ("b", 0.9))
            for drawing in DRAWINGS
        ]
    )
    found = choices(table, {drawing: ["a", "b"] for drawing in DRAWINGS})
    assert found["chosen"].tolist() == found["plain"].tolist() == ["b"] * 4


def test_a_drawing_without_any_number_has_no_part_in_the_choice() -> None:
    scores = {("a", "d0"): 0.5, ("a", "d1"): 0.9, ("b", "d0"): 0.6, ("b", "d1"): 0.1, ("c", "lost"): 0.9}
    rows = [
        {"setting": setting, "drawing": drawing, "score": score, "seconds": 1.0}
        for (setting, drawing), score in scores.items()
    ]
    found = choices(pd.DataFrame(rows), {drawing: ["a", "b"] for drawing in ("d0", "d1", "lost")})
    assert found["chosen"].tolist() == ["a", "b", "a"], "by d1; by d0; by both"
    assert found["plain"].tolist() == ["b", "a", None]
    assert found["chosen_from"].tolist() == [2, 2, 2]


def test_a_drawing_for_which_nothing_can_be_chosen_is_lost_and_the_others_count(sqlite: str) -> None:
    """Only on d0 the two configurations have validation numbers, so that none chooses for d0 itself."""
    trials = []
    for drawing in ("d0", "d1", "d2"):
        for k in (1, 2):
            numbers: dict[tuple[str, str, str], float | None] = {(WORST, "test", "last"): k / 10}
            if drawing == "d0":
                numbers[WORST, "val", "last"] = k / 5
            trials.append(trial("m", k, 0, numbers, drawing=drawing))
    first, second, third, over = rows(filled(sqlite, trials), "e")
    assert (first["chosen"], first["chosen_from"], first["n"], first["mean"]) == (None, 0, 0, None)
    assert (first["plain_chosen"], first["plain_mean"]) == ("k=2", pytest.approx(0.2))
    for row in (second, third):
        assert (row["chosen"], row["plain_chosen"], row["mean"]) == ("k=2", None, pytest.approx(0.2))
    assert (over["n"], over["n_planned"], over["plain_gain"]) == (2, 3, None)
    assert over["chosen"] == "k=2 (2 of 3)"
    assert "nothing" in called(sqlite, "e").stdout
