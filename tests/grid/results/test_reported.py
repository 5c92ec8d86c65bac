"""Published numbers beside ours: the same statistics as the view `score`, of the trials that the number asks for."""

import numpy as np
import pandas as pd
import pytest

from grid.results.store import ResultsStore, TrialEntry
from tests.grid.results.fraction_interval import fraction_interval

SCORES = {"a": [0.61, 0.64, 0.72], "b": [0.5]}


@pytest.fixture
def filled(store: ResultsStore) -> ResultsStore:
    """Configurations a and b done, c pending, d failed; every trial has another selection's number too."""
    launch = store.begin_launch("e", spec="", plan={}, command="")
    for name, seeds in {"a": 3, "b": 1, "c": 2, "d": 2}.items():
        for seed in range(seeds):
            entry = TrialEntry(
                id=f"{name}{seed}", method="m", method_version=1, dataset="birds", data_fingerprint="f", seed=seed,
                config={"k": name},
            )  # fmt: skip
            store.enter("e", [entry])
            if name in SCORES:
                wanted = {"name": "worst_group_accuracy", "split": "test"}
                metrics = [
                    {**wanted, "value": SCORES[name][seed]},
                    {**wanted, "value": 0.9, "selection": "val_average"},
                    {**wanted, "value": 0.1, "step": 3},
                ]
                report = {"attempt": store.claim(entry.id, launch), "metrics": metrics, "n_failed": 0}
                store.finish(entry.id, {**report, "on_failed": "wrong", "seconds": 1.0, "provenance": {}})
            elif name == "d":
                store.fail(entry.id, "RuntimeError")
    place = {
        "paper": "p",
        "table_name": "1",
        "row_name": "r",
        "setting": "",
        "dataset": "birds",
        "method": "m",
    }
    number = {
        "metric": "worst_group_accuracy",
        "split": "test",
        "selection": "last",
        "value": 0.6,
        "n": 3,
        "std": None,
    }
    absent = {**place, "row_name": "nobody", "method": "other"}
    store.record_references([{**one, **number, "group_name": "all"} for one in (place, absent)])
    return store


def test_each_configuration_that_ended_has_a_row(filled: ResultsStore) -> None:
    with filled.reading() as connection:
        table = pd.read_sql("SELECT * FROM reported_vs_measured", connection)
        score = pd.read_sql("SELECT * FROM score WHERE selection = 'last'", connection)
    knobs = table["config"].str.extract('"k":"(.)"')[0]
    assert sorted(knobs.dropna()) == ["a", "b", "d"], "c has not ended"
    assert list(table[knobs.isna()]["row_name"]) == ["nobody"]
    a = table[knobs == "a"].iloc[0]
    values = np.array(SCORES["a"])
    low, high = fraction_interval(values)
    assert (a["measured"], a["measured_std"], a["n"]) == pytest.approx((values.mean(), values.std(ddof=1), 3))
    assert (a["ci_low"], a["ci_high"]) == pytest.approx((low, high), abs=1e-6)
    assert a["difference"] == pytest.approx(values.mean() - 0.6)
    d = table[knobs == "d"].iloc[0]
    assert (d["n"], d["n_planned"], d["seeds_failed"], d["measured"]) == (0, 2, 2, None) or np.isnan(
        d["measured"]
    )
    same = table.merge(score, on="config_id", suffixes=("", "_of_score"))
    same = same[same["metric_of_score"] == "worst_group_accuracy"]
    assert len(same) >= 2
    assert list(same["measured"]) == pytest.approx(list(same["mean"]), nan_ok=True)
    assert list(same["ci_low"]) == pytest.approx(list(same["ci_low_of_score"]), nan_ok=True)
