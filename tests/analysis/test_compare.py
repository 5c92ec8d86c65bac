"""Which of two methods is better, seed by seed: against scipy's paired test, and with a choice that differs
between the validation and the test split."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from analysis.cli import app
from analysis.compare import Wanted, compare
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
    store: ResultsStore, splits: Mapping[str, Mapping[tuple[str, int], tuple[float, ...]]]
) -> ResultsStore:
    launch = store.begin_launch("chosen", spec="", plan={}, command="run", git_commit="a")
    for method, k_top in TEST:
        for seed in range(3):
            trial = TrialEntry(
                id=f"{method}-{k_top}-{seed}", method=method, method_version=1, dataset="toybirds",
                data_fingerprint="f", seed=seed, config={"k_top": k_top},
            )  # fmt: skip
            store.enter("chosen", [trial])
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


def test_without_validation_numbers_no_configuration_is_chosen(empty: ResultsStore) -> None:
    store = enter(empty, {"test": TEST})
    with pytest.raises(LookupError, match=r"2 configurations.*validation split to choose by"):
        compare(store, Wanted("chosen"), "standard", "salf_cbm")
