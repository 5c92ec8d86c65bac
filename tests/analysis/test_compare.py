"""Which of two methods is better, seed by seed: against scipy's paired test, and with a choice that differs
between the validation and the test split."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_rel
from typer.testing import CliRunner

from analysis.cli import app
from analysis.compare import Wanted, compare
from analysis.intervals import t_interval
from grid.results.store import ResultsStore, TrialEntry

# method, k_top -> worst-group accuracy for seeds 0, 1, 2: validation prefers k_top 5, test would prefer 10
VALIDATION = {
    ("standard", 1): (0.1, 0.1, 0.1),
    ("salf_cbm", 5): (0.9, 0.8, 0.7),
    ("salf_cbm", 10): (0.2, 0.3, 0.1),
}
TEST = {
    ("standard", 1): (0.40, 0.47, 0.44),
    ("salf_cbm", 5): (0.60, 0.61, 0.66),
    ("salf_cbm", 10): (0.90, 0.94, 0.92),
}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    yield opened
    opened.close()


def enter(
    store: ResultsStore,
    splits: Mapping[str, Mapping[tuple[str, int], tuple[float, ...]]],
    experiment: str = "chosen",
) -> ResultsStore:
    """The data's fingerprint is the last letter of the experiment's name."""
    launch = store.begin_launch(experiment, spec="", plan={}, command="run", git_commit="a")
    for method, k_top in TEST:
        for seed in range(3):
            trial = TrialEntry(
                id=f"{experiment}-{method}-{k_top}-{seed}", method=method, method_version=1, dataset="toybirds",
                data_fingerprint=experiment[-1], seed=seed, config={"k_top": k_top},
            )  # fmt: skip
            store.enter(experiment, [trial])
            metrics = [
                {
                    "name": "worst_group_accuracy",
                    "value": of[method, k_top][seed],
                    "split": split,
                    "group": "all",
                }
                for split, of in splits.items()
            ]
            done = {
                "attempt": store.claim(trial.id, launch),
                "metrics": metrics,
                "n_failed": 0,
                "seconds": 1.0,
            }
            assert store.finish(
                trial.id, done | {"provenance": {}, "on_failed": "wrong", "uri": "file:///none"}
            )
    return store


def test_a_method_stands_for_the_configuration_that_validation_chose(empty: ResultsStore) -> None:
    store = enter(empty, {"val": VALIDATION, "test": TEST})
    (row,) = compare(store, Wanted("chosen"), "standard", "salf_cbm").to_dict("records")
    a, b = TEST["standard", 1], TEST["salf_cbm", 5]
    expected = ttest_rel(b, a).confidence_interval(0.95)
    assert (row["n"], row["mean_a"], row["mean_b"]) == (
        3,
        pytest.approx(sum(a) / 3),
        pytest.approx(sum(b) / 3),
    )
    assert row["difference"] == pytest.approx(sum(b) / 3 - sum(a) / 3)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))


def test_it_is_said_of_how_many_configurations_one_was_chosen(empty: ResultsStore) -> None:
    store = enter(empty, {"val": VALIDATION, "test": TEST})
    (row,) = compare(store, Wanted("chosen"), "standard", "salf_cbm").to_dict("records")
    assert (row["chosen_a_from"], row["chosen_b_from"]) == (1, 2)
    command = ["compare", "chosen", "standard", "salf_cbm", "--results", store.url]
    told = CliRunner().invoke(app, command).stdout
    assert f"toybirds: {row['b']} is the best of 2 configurations on val" in told
    by_id = CliRunner().invoke(app, [*command[:3], row["b"].split()[1], *command[4:]]).stdout
    assert "is the best of" not in by_id
    other = CliRunner().invoke(app, [*command, "--dataset", "other"])
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)


def test_several_drawings_of_the_data_have_a_row_over_them(empty: ResultsStore) -> None:
    """Three drawings, on each another effect; validation prefers k_top 5 on two of them and in the mean."""
    random = np.random.default_rng(0)
    gains = {}
    for number in range(3):
        test = {key: tuple(random.uniform(size=3)) for key in TEST}
        val = VALIDATION if number < 2 else {**VALIDATION, ("salf_cbm", 10): (1.0, 1.0, 1.0)}
        enter(empty, {"val": val, "test": test}, experiment=f"drawing_{number}")
        gains[str(number)] = np.subtract(test["salf_cbm", 5], test["standard", 1])
    wanted = Wanted("drawing_0", others=("drawing_1", "drawing_2"))
    *each, over = compare(empty, wanted, "standard", "salf_cbm").to_dict("records")
    assert [row["n"] for row in [*each, over]] == [3, 3, 3, 3]
    for row in each:
        interval = ttest_1samp(gains[row["drawing"]], 0).confidence_interval()
        assert row["difference"] == pytest.approx(gains[row["drawing"]].mean())
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(np.clip(interval, -1, 1))
    means = [gain.mean() for gain in gains.values()]
    interval = ttest_1samp(means, 0).confidence_interval()
    assert (over["drawing"], over["difference"]) == ("all", pytest.approx(np.mean(means)))
    assert (over["ci_low"], over["ci_high"]) == pytest.approx(np.clip(interval, -1, 1))
    asked = ["compare", "drawing_0", "standard", "salf_cbm", "--results", empty.url]
    told = CliRunner().invoke(app, [*asked, "--drawing", "drawing_1", "--drawing", "drawing_2"]).stdout
    assert "3 drawings" in told
    assert CliRunner().invoke(app, [*asked, "--drawing", "none"]).exit_code == 2


def test_only_over_drawings_do_intervals_hold_what_varies_between_them() -> None:
    """Of 2,000 experiments with drawings and seeds that both vary, 95 of 100 intervals over the drawings'
    means hold the truth, and far fewer of those over all runs."""
    random = np.random.default_rng(0)
    of_drawing = random.normal(0, 0.1, (2000, 4, 1))
    runs = of_drawing + random.normal(0, 0.1, (2000, 4, 5))

    def covered(values: np.ndarray) -> float:
        ends = np.array([t_interval(pd.Series(one)) for one in values], float)
        return float(np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)))

    assert 0.93 <= covered(runs.mean(axis=2)) <= 0.97
    assert covered(runs.reshape(2000, 20)) < 0.8


def test_without_validation_numbers_no_configuration_is_chosen(empty: ResultsStore) -> None:
    store = enter(empty, {"test": TEST})
    with pytest.raises(LookupError, match=r"2 configurations.*validation split to choose by"):
        compare(store, Wanted("chosen"), "standard", "salf_cbm")
