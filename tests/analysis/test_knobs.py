"""Effects, importance, trade-offs and groups against SciPy, statsmodels, closed forms and brute force."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from analysis.cli import app
from analysis.effects import effects, holm
from analysis.importance import importance
from analysis.pareto import pareto
from grid.results.front import unbeaten
from grid.results.store import ResultsStore, TrialEntry

SEEDS = range(5)
NAMES = ("worst_group_accuracy", "average_accuracy")


def fill(store: ResultsStore, trials: list[dict[str, Any]], experiment: str = "e") -> None:
    """Enters done trials: {config, seed, metrics: {(name, group): value}, method}."""
    store.enter(experiment, entries := [_entry(trial) for trial in trials])
    launch = store.begin_launch(experiment, spec="", plan={}, command="")
    for entry, trial in zip(entries, trials, strict=True):
        metrics = [
            {"name": name, "group": group, "split": split, "value": value}
            for (name, group), value in trial["metrics"].items()
            for split in ("val", "test")
        ]
        report = {
            "attempt": store.claim(entry.id, launch), "metrics": metrics, "n_failed": 0, "on_failed": "wrong",
            "seconds": trial.get("seconds", 1.0), "provenance": {},
        }  # fmt: skip
        assert store.finish(entry.id, report)


def _entry(trial: dict[str, Any]) -> TrialEntry:
    return TrialEntry(
        id=json.dumps([trial.get("method", "m"), trial["config"], trial["seed"]]), method=trial.get("method", "m"),
        method_version=1, dataset="birds", data_fingerprint="f", seed=trial["seed"], config=trial["config"],
    )  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> ResultsStore:
    return ResultsStore.open(f"sqlite:///{tmp_path}/results.db")


@pytest.fixture
def crossed(empty: ResultsStore) -> ResultsStore:
    """Knobs a (0, 1, 2) and b (x, y), crossed, with an effect of a and noise."""
    random = np.random.default_rng(0)
    fill(
        empty,
        [
            {
                "config": {"a": a, "b": b},
                "seed": seed,
                "metrics": {(name, "all"): 0.5 + 0.1 * a + 0.03 * random.normal() for name in NAMES},
            }
            for a in range(3)
            for b in "xy"
            for seed in SEEDS
        ],
    )
    return empty


def test_effects_are_those_of_the_view_with_the_p_of_a_paired_t_test(crossed: ResultsStore) -> None:
    table = effects(crossed, "e")
    with crossed.reading() as connection:
        view = pd.read_sql(
            "SELECT * FROM ablation WHERE metric = 'worst_group_accuracy' AND split = 'test'", connection
        )
        scores = pd.read_sql(
            "SELECT parameter, value, rest, seed, score FROM ablation_cell "
            "WHERE metric = 'worst_group_accuracy' AND split = 'test'", connection,
        )  # fmt: skip
    key = ["parameter", "value"]
    columns = [*key, "mean", "ci_low", "ci_high", "difference", "difference_ci_low", "difference_ci_high"]
    pd.testing.assert_frame_equal(
        table[columns].sort_values(key, ignore_index=True), view[columns].sort_values(key, ignore_index=True)
    )
    assert list(table["parameter"]) == ["a", "a", "a", "b", "b"], "the largest effect stands first"
    by_seed = scores.groupby([*key, "seed"])["score"].mean()
    for row in table[table["difference"].notna()].to_dict("records"):
        one, other = (by_seed[row["parameter"], value] for value in (row["value"], row["reference"]))
        assert row["p"] == pytest.approx(ttest_rel(one, other).pvalue)


@pytest.mark.parametrize("to", ["0", "1", "2"])
def test_differences_can_be_to_any_value(crossed: ResultsStore, to: str) -> None:
    table = effects(crossed, "e", to=to)
    with crossed.reading() as connection:
        scores = pd.read_sql(
            "SELECT value, seed, AVG(score) AS score FROM ablation_cell WHERE parameter = 'a' "
            "AND metric = 'worst_group_accuracy' AND split = 'test' GROUP BY value, seed", connection,
        )  # fmt: skip
    wide = scores.pivot(index="seed", columns="value", values="score")
    for row in table[table["parameter"] == "a"].to_dict("records"):
        if row["value"] == to:
            assert np.isnan(row["difference"])
            continue
        gains = wide[row["value"]] - wide[to]
        interval = ttest_1samp(gains, 0).confidence_interval()
        assert (row["reference"], row["difference"]) == (to, pytest.approx(gains.mean()))
        assert (row["difference_ci_low"], row["difference_ci_high"]) == pytest.approx(tuple(interval))
    assert table[table["parameter"] == "b"]["difference"].isna().all(), "b has no such value"


def test_differences_can_be_to_the_default(crossed: ResultsStore) -> None:
    """The method's own value, where a spec says nothing, is among the values of a and not of b."""
    with pytest.raises(LookupError, match="its default among its values; there are a: 0, 1, 2; b: x, y"):
        effects(crossed, "e", to="default")
    crossed.begin_launch("e", spec="", plan={"defaults": {"m": {"a": "1", "b": "z"}}}, command="")
    told, same = effects(crossed, "e", to="default"), effects(crossed, "e", to="1")
    pd.testing.assert_frame_equal(told, same)
    assert told["reference"].dropna().unique().tolist() == ["1"]


def test_only_configurations_with_every_value_count(empty: ResultsStore) -> None:
    """Without b = y at a = 1: what is left of b = y, far above, must not enter the difference of a."""
    trials = [
        {"config": {"a": a, "b": b}, "seed": seed, "metrics": {(name, "all"): 0.2 + 0.1 * a + 0.5 * (b == "y")}}
        for a in (0, 1) for b in "xy" for seed in range(3) for name in NAMES[:1] if (a, b) != (1, "y")
    ]  # fmt: skip
    fill(empty, trials)
    for to, difference in (("0", 0.1), ("1", -0.1)):
        table = effects(empty, "e", to=to, parameter="a")
        assert table["difference"].dropna().tolist() == pytest.approx([difference])
    assert effects(empty, "e", parameter="a")["p"].dropna().tolist() == [0.0], "the same gain in every seed"


def test_a_value_that_no_knob_has_is_refused_with_those_that_there_are(crossed: ResultsStore) -> None:
    with pytest.raises(LookupError, match=r"no knob has the value '7'.* a: 0, 1, 2; b: x, y"):
        effects(crossed, "e", to="7")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    known = [value for value in p if not np.isnan(value)]
    corrected = holm(pd.Series(p, dtype=float))
    assert list(corrected.isna()) == [bool(np.isnan(value)) for value in p]
    if known:
        assert list(corrected.dropna()) == pytest.approx(list(multipletests(known, method="holm")[1]))


def test_holm_keeps_the_rate_of_any_false_discovery() -> None:
    random = np.random.default_rng(0)
    draws = ttest_1samp(random.normal(size=(2000, 20, 5)), 0, axis=2).pvalue
    found = [(holm(pd.Series(family)) < 0.05).any() for family in draws]
    assert (draws < 0.05).any(axis=1).mean() > 0.5, "uncorrected, most families have one"
    assert 0.03 < np.mean(found) < 0.065


def test_importance_is_the_share_of_the_variance(empty: ResultsStore) -> None:
    """Crossed and additive: the shares are 4 : 1 : 0."""
    fill(
        empty,
        [
            {
                "config": {"strong": a, "weak": b, "idle": c, "fixed": 1, "nested": {"name": n, "size": 3}},
                "seed": seed,
                "metrics": {(name, "all"): 0.2 * a + 0.1 * b for name in NAMES},
            }
            for a in (0, 1) for b in (0, 1) for c in (0, 1) for n in "uv" for seed in range(2)
        ],
    )  # fmt: skip
    table = importance(empty, "e", "worst_group_accuracy").set_index("parameter")
    assert list(table.index[:2]) == ["strong", "weak"]
    assert set(table.index) == {"strong", "weak", "idle", "nested.name"}, (
        "what does not vary has no importance"
    )
    assert table["fanova"].to_dict() == pytest.approx(
        {"strong": 0.8, "weak": 0.2, "idle": 0, "nested.name": 0}, abs=0.08
    )
    assert table["fanova"].sum() == pytest.approx(1)
    assert table["ped_anova"].idxmax() == "strong"
    with pytest.raises(LookupError, match="no worst_group_accuracy"):
        importance(empty, "e", "worst_group_accuracy", method="other")


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=12))
def test_unbeaten_by_brute_force(rows: list[list[int]]) -> None:
    naive = [
        not any(
            all(o >= r for o, r in zip(other, row, strict=True))
            and any(o > r for o, r in zip(other, row, strict=True))
            for other in rows
        )
        for row in rows
    ]
    assert list(unbeaten(np.array(rows, dtype=float))) == naive


def test_a_configuration_is_beaten_by_one_that_is_better_and_not_slower(empty: ResultsStore) -> None:
    trials = [("good", 0.9, 0.5, 9.0), ("quick", 0.5, 0.5, 1.0), ("beaten", 0.5, 0.5, 2.0)]
    fill(
        empty,
        [
            {
                "config": {"k": name}, "seed": seed, "seconds": seconds,
                "metrics": {("worst_group_accuracy", "all"): worst, ("average_accuracy", "all"): average},
            }
            for name, worst, average, seconds in trials for seed in range(2)
        ],
    )  # fmt: skip
    table = pareto(empty, "e", ["worst_group_accuracy", "average_accuracy"], ["seconds"])
    assert dict(zip(table["knobs"], table["unbeaten"], strict=True)) == {
        "k=good": True, "k=quick": True, "k=beaten": False,
    }  # fmt: skip
    assert list(table["seconds"]) == [9.0, 1.0, 2.0]


ASKED = [
    ["ablation", "e"], ["ablation", "e", "--to", "1"], ["importance", "e"], ["pareto", "e"], ["groups", "e"],
    ["leaderboard", "--experiment", "e"], ["scores", "e", "--metric", "worst_group_accuracy"], ["reported"],
    ["compare", "e", "m", "other"], ["compare", "e", "m", "m"], ["cost", "e"], ["cost"], ["ablation", "e", "--to", "default"],
    ["errors", "e", "m", "m"], ["errors", "e", "m", "other"], ["agreement", "e", "m", "other"], ["export", "e"], ["report", "e"],
]  # fmt: skip
ODD = {
    "no trial": [],
    "one seed": [{"config": {"a": a}, "seed": 0, "metrics": {(NAMES[0], "all"): 0.5}} for a in range(5)],
    "no number": [{"config": {"a": a}, "seed": 0, "metrics": {(n, "all"): float("nan") for n in NAMES}} for a in (0, 1)],
    "200 knobs": [
        {"config": {f"knob {k} «é»": (a * k) % 5 for k in range(200)}, "seed": s, "metrics": {(n, "all"): 0.1 * a for n in NAMES}}
        for a in range(4) for s in (0, 1)
    ],
    "odd names": [
        {"config": {"a & b": a}, "seed": s, "metrics": {("Genauigkeit für | alle", "all"): 0.1 * a}}
        for a in range(4) for s in (0, 1)
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_experiments_have_a_clear_answer(case: str, fresh: str, tmp_path: Path) -> None:
    store = ResultsStore.open(fresh)
    fill(store, ODD[case])
    store.close()
    for command in ASKED:
        home = {"CONCEPTGRID_HOME": str(tmp_path / "home")}
        result = CliRunner(env=home).invoke(app, [*command, "--results", fresh])
        assert result.exit_code in (0, 2), (command, result.output, result.exception)
        if result.exit_code == 2:
            assert result.output.count("\n") == 1, (command, result.output)
            assert result.output.startswith("error: ")


def test_failed_trials_only_have_a_clear_answer(fresh: str, tmp_path: Path) -> None:
    store = ResultsStore.open(fresh)
    entries = [_entry({"config": {"a": a}, "seed": seed}) for a in range(4) for seed in (0, 1)]
    store.enter("e", entries)
    for entry in entries:
        store.fail(entry.id, "RuntimeError: none")
    store.close()
    for command in ASKED:
        home = {"CONCEPTGRID_HOME": str(tmp_path / "home")}
        result = CliRunner(env=home).invoke(app, [*command, "--results", fresh])
        assert result.exit_code in (0, 2), (command, result.output, result.exception)
    told = CliRunner().invoke(app, ["leaderboard", "--experiment", "e", "--results", fresh]).output
    assert "2 of 2 seeds failed" in told
