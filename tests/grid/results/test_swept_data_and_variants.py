"""Ablations over how data are drawn and over named variants, on both engines, against pairs made by hand."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from grid.results.entry import TrialEntry
from grid.results.store import ResultsStore

SEEDS = range(4)


def enter(store: ResultsStore, experiment: str, score: float, **given: Any) -> str:
    """The id of a trial that is done, with this score."""
    name = "/".join(str(given[part]) for part in ("data_fingerprint", "seed", "config"))
    entry = TrialEntry(id=name, method="m", method_version=1, dataset="birds", **given)
    launch = store.begin_launch(experiment, spec="", plan={}, command="")
    store.enter(experiment, [entry])
    attempt = store.claim(entry.id, launch)
    if attempt is not None:
        metrics = [{"name": "worst_group_accuracy", "value": score, "split": "test", "group": "all"}]
        report = {"attempt": attempt, "metrics": metrics, "n_failed": 0, "on_failed": "wrong", "seconds": 1.0}
        assert store.finish(entry.id, {**report, "provenance": {}})
    return name


def ablation(store: ResultsStore, parameter: str, experiment: str = "e") -> pd.DataFrame:
    with store.reading() as connection:
        table = pd.read_sql("SELECT * FROM ablation", connection)
    return table[(table["parameter"] == parameter) & (table["experiment"] == experiment)].set_index("value")


def paired(low: dict[int, float], high: dict[int, float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of the difference, by seed."""
    gains = np.array([high[seed] - low[seed] for seed in low])
    half = student.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean()), float(half)


@pytest.fixture
def scores() -> dict[tuple[Any, ...], float]:
    stream = np.random.default_rng(5)
    return {
        (share, k, seed): float(stream.uniform(0.4, 0.6)) + 0.2 * (share < 0.9) + 0.1 * (k > 1)
        for share in (0.8, 0.95)
        for k in (1, 2)
        for seed in SEEDS
    }


def test_a_knob_of_the_generator_pairs_trials_on_data_that_differ_in_it(
    store: ResultsStore, scores: dict[tuple[Any, ...], float]
) -> None:
    for (share, k, seed), score in scores.items():
        drawing = {"generator": {"correlation": share, "seed": 0, "source": {"n": 3}}, "images_per_split": 9}
        enter(store, "e", score, data_fingerprint=f"f{share}", seed=seed, config={"k": k}, drawing=drawing)
    table = ablation(store, "generator.correlation")
    assert table["data_fingerprint"].unique().tolist() == ["drawn anew"]
    means = {
        share: {seed: np.mean([scores[share, k, seed] for k in (1, 2)]) for seed in SEEDS}
        for share in (0.8, 0.95)
    }
    mean, half = paired(means[0.8], means[0.95])
    row = table.loc["0.95"]
    assert (row["n"], row["paired"], row["reference"]) == (4, 1, "0.8")
    assert row["difference"] == pytest.approx(mean)
    assert row["difference_ci_high"] - row["difference"] == pytest.approx(half)
    assert row["mean"] == pytest.approx(np.mean(list(means[0.95].values())))
    assert set(ablation(store, "k")["data_fingerprint"]) == {"f0.8", "f0.95"}, "each drawing has its own"
    assert ablation(store, "generator.seed").empty
    assert ablation(store, "images_per_split").empty


def test_drawings_that_differ_in_two_knobs_are_no_pair(store: ResultsStore) -> None:
    for (share, noise), seed in itertools.product([(0.8, 1), (0.95, 2)], SEEDS):
        drawing = {"generator": {"correlation": share, "noise": noise}}
        enter(store, "e", 0.5, data_fingerprint=f"f{share}", seed=seed, config={"k": 1}, drawing=drawing)
    assert set(ablation(store, "generator.correlation")["paired"]) == {0}


def test_what_drew_the_data_is_kept_of_trials_that_were_there_before(store: ResultsStore) -> None:
    """A trial that an older store has, without these knobs, gets them when an experiment asks for it."""
    given = {"data_fingerprint": "f", "seed": 0, "config": {"k": 1}}
    enter(store, "old", 0.5, **given)
    entry = TrialEntry(
        id="f/0/{'k': 1}",
        method="m",
        method_version=1,
        dataset="birds",
        drawing={"generator": {"seed": 7}},
        **given,
    )
    store.enter("e", [entry])
    params = {row["name"]: row["value"] for row in store.trial(entry.id)["params"]}
    assert params == {"k": "1", "generator.seed": "7"}


def test_variants_are_paired_over_what_they_do_not_set(store: ResultsStore) -> None:
    stream = np.random.default_rng(6)
    knobs = {"paper": {"bag": 15, "recipe": {"epochs": 7}}, "small": {"bag": 3, "recipe": {"epochs": 2}}}
    scores: dict[tuple[str, int, int], float] = {}
    for (name, own), target, seed in itertools.product(knobs.items(), (1, 2), SEEDS):
        score = scores[name, target, seed] = float(stream.uniform(0.3, 0.7))
        recipe = {**own["recipe"], "rate": 0.1}  # type: ignore[dict-item]
        config = {"bag": own["bag"], "target": target, "recipe": recipe}
        enter(
            store, "e", score, data_fingerprint="f", seed=seed, config=config, variant=name,
            coupled=("bag", "recipe.epochs"),
        )  # fmt: skip
    table = ablation(store, "variant")
    by_seed = {
        name: {seed: float(np.mean([scores[name, target, seed] for target in (1, 2)])) for seed in SEEDS}
        for name in knobs
    }
    mean, half = paired(by_seed["paper"], by_seed["small"])
    row = table.loc["small"]
    assert (row["n"], row["n_planned"], row["trials"], row["paired"], row["reference"]) == (
        4,
        4,
        8,
        1,
        "paper",
    )
    assert row["difference"] == pytest.approx(mean)
    assert row["difference_ci_low"] == pytest.approx(mean - half)
    assert set(ablation(store, "bag")["paired"]) == {0}, "the variants change more than that"
    with store.reading() as connection:
        board = pd.read_sql("SELECT variant, config FROM leaderboard", connection)
        kept = pd.read_sql("SELECT DISTINCT variant FROM score", connection)
    assert sorted(board["variant"]) == ["paper", "paper", "small", "small"]
    assert all(('"bag":15' in config) == (name == "paper") for name, config in board.values)
    assert sorted(kept["variant"]) == ["paper", "small"]


def test_two_experiments_name_a_variant_each_as_it_likes(store: ResultsStore) -> None:
    for experiment, names in {"e": ("a", "b"), "other": ("x", "y"), "plain": (None, None)}.items():
        for k, name in enumerate(names):
            for seed in SEEDS:
                enter(
                    store, experiment, 0.5 + k / 10, data_fingerprint="f", seed=seed, config={"k": k},
                    variant=name, coupled=("k",),
                )  # fmt: skip
    assert ablation(store, "variant").index.tolist() == ["a", "b"]
    assert ablation(store, "variant", "other").index.tolist() == ["x", "y"]
    assert ablation(store, "variant", "plain").empty
    assert ablation(store, "k", "plain").index.tolist() == ["0", "1"]


def test_a_variant_keeps_its_name_in_an_earlier_form_and_takes_a_new_one(store: ResultsStore) -> None:
    given = {"data_fingerprint": "f", "seed": 0, "config": {"k": 1}, "coupled": ("k",)}
    trial_id = enter(store, "e", 0.5, variant="a", **given)

    def named() -> list[tuple[Any, ...]]:
        with store.reading() as connection:
            rows = pd.read_sql("SELECT form, variant FROM asked_trial", connection)
        return [tuple(row) for row in rows.values]

    store.set_form("e", [])
    assert named() == [("earlier", "a")]
    store.set_form("e", [trial_id])
    assert named() == [("present", "a")]
    renamed = TrialEntry(id=trial_id, method="m", method_version=1, dataset="birds", variant="b", **given)
    store.enter("e", [renamed])
    assert named() == [("present", "b")]
