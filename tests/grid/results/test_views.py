"""The views against pandas and SciPy on random stores, and by hand on small ones."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t
from sqlalchemy import text

from grid.results.store import ResultsStore, TrialEntry
from tests.grid.results.fraction_interval import fraction_interval

TOLERANCE = 1e-6
SERIES = ["experiment", "dataset", "method", "parameter", "metric", "split", "selection"]
ACCURACIES = ("average_accuracy", "adjusted_average_accuracy", "worst_group_accuracy")


def query(store: ResultsStore, sql: str) -> pd.DataFrame:
    with store.reading() as connection:
        return pd.read_sql(text(sql), connection)


def fill(store: ResultsStore, trials: list[dict[str, Any]], experiment: str = "e") -> None:
    """Enters done trials: {config, seed, scores: {metric: value}} and what differs from usual."""
    launch = store.begin_launch(experiment, spec="", plan={}, command="")
    entries = [
        TrialEntry(
            id=f"{experiment}{number}",
            method=trial.get("method", "salf_cbm"),
            method_version=1,
            dataset=trial.get("dataset", "toybirds"),
            data_fingerprint="f",
            seed=trial["seed"],
            config=trial["config"],
        )
        for number, trial in enumerate(trials)
    ]
    store.enter(experiment, entries)
    for entry, trial in zip(entries, trials, strict=True):
        metrics = [
            {"name": name, "value": value, "split": "test", "group": "all", "selection": "last"}
            for name, value in trial["scores"].items()
        ]
        report = {
            "attempt": store.claim(entry.id, launch),
            "metrics": [*metrics, {**metrics[0], "step": 1, "value": 99.0}],
            "n_failed": trial.get("n_failed", 0),
            "on_failed": trial.get("on_failed", "wrong"),
            "seconds": 1.0,
            "provenance": {},
        }
        assert store.finish(entry.id, report)


def interval(scores: pd.Series, metric: str = "difference") -> tuple[float, float, float, float]:
    """Mean, sample standard deviation, and the 95 % interval by SciPy: Student's, of fractions on log odds."""
    n, mean, std = len(scores), scores.mean(), scores.std(ddof=1)
    if n < 2:
        return mean, math.nan, math.nan, math.nan
    if metric.endswith(("accuracy", "iou")):
        return mean, std, *fraction_interval(scores)
    half = student_t.ppf(0.975, n - 1) * std / math.sqrt(n)
    return mean, std, mean - half, mean + half


def random_trials(seed: int) -> list[dict[str, Any]]:
    """A grid with holes: two data sets, three knobs, one of them nested, some NaN."""
    stream = np.random.default_rng(seed)
    trials = []
    for dataset in ("toybirds", "waterbirds"):
        for k_top in (5, 10, 20):
            for name in ("slic", "felzenszwalb"):
                for replicate in range(4):
                    score = stream.random()
                    values = [score if stream.random() > 0.05 else math.nan, stream.random()]
                    config = {"k_top": k_top, "fixed": 1, "segmenter": {"name": name}}
                    names = ("worst_group_accuracy", "average_accuracy")
                    trial = {"dataset": dataset, "config": config, "seed": replicate}
                    if stream.random() > 0.1:
                        scores = dict(zip(names, values, strict=True))
                        trials.append({**trial, "scores": scores})
    return trials


def reference_ablation(trials: list[dict[str, Any]]) -> dict[tuple[str, ...], list[float]]:
    """n, mean, std, interval, difference with its interval; by data set, knob, value, metric."""
    rows = [
        (trial["dataset"], knob, value, rest, trial["seed"], metric, score)
        for trial in trials
        for knob, value, rest in (
            ("k_top", trial["config"]["k_top"], trial["config"]["segmenter"]["name"]),
            ("segmenter.name", trial["config"]["segmenter"]["name"], trial["config"]["k_top"]),
        )
        for metric, score in trial["scores"].items()
        if not math.isnan(score)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "knob", "value", "rest", "seed", "metric", "x"])
    expected = {}
    for (dataset, knob, metric), series in table.groupby(["dataset", "knob", "metric"]):
        wide = series.pivot_table(index=["rest", "seed"], columns="value", values="x").dropna()
        by_seed = wide.groupby("seed").mean()
        lowest = sorted(by_seed.columns)[0]
        for value in by_seed.columns:
            gain = interval(by_seed[value] - by_seed[lowest])
            differs = [math.nan] * 3 if value == lowest else [gain[0], max(gain[2], -1), min(gain[3], 1)]
            numbers = [len(by_seed), len(wide), *interval(by_seed[value], metric), *differs]
            expected[dataset, knob, str(value), metric] = numbers
    return expected


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ablation_agrees_with_pandas_and_scipy(store: ResultsStore, seed: int) -> None:
    trials = random_trials(seed)
    fill(store, trials)
    columns = "n, trials, mean, std, ci_low, ci_high, difference, difference_ci_low"
    view = query(
        store, f"SELECT dataset, parameter, value, metric, {columns}, difference_ci_high, paired "
        "FROM ablation"
    )  # fmt: skip
    expected = reference_ablation(trials)
    assert {tuple(row) for row in view[["dataset", "parameter", "value", "metric"]].values} == set(expected)
    assert set(view["paired"]) == {1}
    for row in view.itertuples(index=False):
        numbers = np.array(row[4:-1], dtype=float)
        np.testing.assert_allclose(numbers, expected[tuple(row[:4])], rtol=TOLERANCE, atol=1e-12)


def test_leaderboard_agrees_with_pandas_and_scipy(store: ResultsStore) -> None:
    stream = np.random.default_rng(3)
    trials = [
        {"config": {"k": k}, "seed": seed, "scores": dict(zip(ACCURACIES, row, strict=True))}
        for k in range(6)
        for seed, row in enumerate(stream.random((k + 1, 3)))
    ]
    fill(store, trials)
    view = query(
        store,
        "SELECT * FROM leaderboard WHERE dataset='toybirds' ORDER BY worst_group_accuracy DESC",
    )
    assert list(view["worst_group_accuracy"]) == sorted(view["worst_group_accuracy"])[::-1]
    assert sorted(view["n"]) == [1, 2, 3, 4, 5, 6]
    for row in view.to_dict("records"):
        of_it = [trial for trial in trials if f'"k":{trial["config"]["k"]}}}' in row["config"]]
        for name in ACCURACIES:
            columns = [name, f"{name}_std", f"{name}_ci_low", f"{name}_ci_high"]
            shown = np.array([row[column] for column in columns], dtype=float)
            expected = interval(pd.Series([trial["scores"][name] for trial in of_it]), name)
            np.testing.assert_allclose(shown, expected, rtol=TOLERANCE)


def test_the_designs_ablation_query(store: ResultsStore) -> None:
    score = {5: 0.5, 10: 0.7}
    fill(
        store,
        [
            {"config": {"k_top": k}, "seed": s, "scores": {"worst_group_accuracy": x + s / 100}}
            for k, x in score.items()
            for s in (0, 1, 2)
        ],
        experiment="waterbirds",
    )
    shown = query(
        store,
        "SELECT value, mean, std, n, ci_low, ci_high FROM ablation "
        "WHERE experiment='waterbirds' AND method='salf_cbm' AND parameter='k_top' "
        "AND metric='worst_group_accuracy' AND split='test'",
    ).set_index("value")
    assert shown.loc["5"].tolist() == pytest.approx([0.51, 0.01, 3, *fraction_interval([0.5, 0.51, 0.52])])
    difference = query(store, "SELECT * FROM ablation WHERE value='10'").iloc[0]
    assert difference["reference"] == "5"
    assert difference[["difference", "difference_ci_low", "difference_ci_high"]].tolist() == (
        pytest.approx([0.2, 0.2, 0.2])
    )


def test_without_a_complete_cell_the_ablation_says_unpaired(store: ResultsStore) -> None:
    knobs = [(5, 1), (10, 2), (20, 3)]
    fill(
        store,
        [{"config": {"k": k, "b": b}, "seed": 0, "scores": {"m": k / 100}} for k, b in knobs],
    )
    view = query(store, "SELECT * FROM ablation WHERE parameter='k' ORDER BY place")
    assert view["value"].tolist() == ["5", "10", "20"], "numbers in the order of numbers"
    assert view["mean"].tolist() == [0.05, 0.1, 0.2]
    assert view["paired"].tolist() == [0, 0, 0]
    assert view[["std", "ci_low", "difference", "difference_ci_low"]].isna().all(axis=None)


def test_dropped_images_are_flagged(store: ResultsStore) -> None:
    scores = {"worst_group_accuracy": 0.5}
    trials = [{"config": {"k": k}, "seed": s, "scores": scores} for k in (1, 2) for s in (0, 1)]
    trials[0] |= {"on_failed": "drop", "n_failed": 7}
    fill(store, trials)
    for view in ("ablation", "leaderboard"):
        flags = query(store, f"SELECT on_failed FROM {view}")["on_failed"]
        assert sorted(flags) == ["mixed", "wrong"]
    assert query(store, "SELECT MAX(n_failed) AS n FROM leaderboard")["n"].tolist() == [7]


def test_only_done_trials_and_other_experiments_apart(store: ResultsStore) -> None:
    trials = [{"config": {"k": k}, "seed": 0, "scores": {"m": float(k)}} for k in (1, 2, 3)]
    fill(store, trials, "one")
    fill(store, [{**trial, "dataset": "other"} for trial in trials[:2]], "two")
    store.reopen("one2")
    store.claim("one2", None)
    assert query(store, "SELECT value FROM ablation WHERE experiment='one'")["value"].tolist() == (["1", "2"])
    assert query(store, "SELECT DISTINCT dataset FROM ablation WHERE experiment='two'").iat[0, 0] == ("other")


def test_published_numbers_stand_beside_ours(store: ResultsStore) -> None:
    fill(store, [{"config": {"k": 1}, "seed": 0, "scores": {"worst_group_accuracy": 0.8}}])
    published = {
        "paper": "SALF-CBM", "table_name": "1", "row_name": "ours", "setting": "", "split": "test",
        "dataset": "toybirds", "method": "salf_cbm", "metric": "worst_group_accuracy",
        "selection": "last", "value": 0.75, "std": None, "n": None,
    }  # fmt: skip
    store.record_references([published, {**published, "row_name": "theirs", "method": "eac"}])
    view = query(store, "SELECT * FROM reported_vs_measured ORDER BY row_name")
    assert view["row_name"].tolist() == ["ours", "theirs"]
    assert view["difference"][0] == pytest.approx(0.05)
    assert pd.isna(view["measured"][1])


def test_the_table_of_t_quantiles_is_scipys(store: ResultsStore) -> None:
    table = query(store, "SELECT * FROM student_t ORDER BY df_low")
    np.testing.assert_allclose(table["t"], student_t.ppf(0.975, table["df_low"]), rtol=1e-6)
    assert table["df_low"][1:].tolist() == (table["df_high"][:-1] + 1).tolist()


def test_score_has_every_number_and_agrees_with_pandas_and_scipy(store: ResultsStore) -> None:
    stream = np.random.default_rng(4)
    trials = [
        {"config": {"k": k}, "seed": seed, "scores": {"insertion_auc": float(x), "mean_iou": float(y)}}
        for k in range(3)
        for seed, (x, y) in enumerate(stream.random((k + 1, 2)))
    ]
    fill(store, trials)
    view = query(store, "SELECT * FROM score")
    assert len(view) == 3 * 2
    for row in view.itertuples():
        own = [t["scores"][row.metric] for t in trials if t["config"] == json.loads(row.config)]
        found = [row.mean, row.std, row.ci_low, row.ci_high]
        assert row.n == len(own)
        np.testing.assert_allclose(
            np.array(found, float), interval(pd.Series(own), row.metric), rtol=TOLERANCE, equal_nan=True
        )


@pytest.mark.parametrize("odd", ACCURACIES)
def test_the_leaderboard_counts_the_metric_that_fewest_seeds_have(store: ResultsStore, odd: str) -> None:
    """One that no trial has does not count; one that is no number for a seed does."""
    others = [name for name in ACCURACIES if name != odd]
    trials = [
        {
            "config": {"k": k},
            "seed": seed,
            "scores": dict.fromkeys(others, 0.5 + seed / 100) | ({} if k == 1 else {odd: value}),
        }
        for k in (1, 2)
        for seed, value in enumerate((0.4, math.nan, 0.6))
    ]
    fill(store, trials)
    absent, short = query(store, "SELECT * FROM leaderboard ORDER BY config").to_dict("records")
    assert (absent["n"], absent["seeds_nan"], short["n"], short["seeds_nan"]) == (3, 0, 2, 1)
    assert pd.isna(absent[odd])
    assert short[odd] == pytest.approx(0.5)
    assert short[others[0]] == pytest.approx(0.51)
