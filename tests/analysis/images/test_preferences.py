"""Shares of votes against scipy's exact forms, and clusters against what they must be worth."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from analysis.cli import app
from analysis.images.preferences import effective_votes, preferences
from analysis.intervals import wilson
from grid.results.store import ResultsStore


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 1), (7, 10), (63, 100), (100, 100), (3, 1500)])
def test_the_interval_is_wilsons(k: int, n: int) -> None:
    found = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize("raters", [1, 2, 5])
def test_raters_who_always_agree_are_worth_one(raters: int) -> None:
    chosen = np.array([True] * 30 + [False] * 70)
    votes = pd.Series(np.tile(chosen, raters))
    images = pd.Series(np.tile(np.arange(100), raters).astype(str))
    assert effective_votes(votes, images) == pytest.approx(100)


def test_independent_raters_are_worth_nearly_all_their_votes_and_opposed_ones_no_more() -> None:
    stream = np.random.default_rng(0)
    images = pd.Series(np.repeat(np.arange(4000), 5).astype(str))
    assert effective_votes(pd.Series(stream.random(20_000) < 0.3), images) == pytest.approx(20_000, rel=0.05)
    opposed = pd.Series([True, False] * 50)
    assert effective_votes(opposed, pd.Series(np.repeat(np.arange(50), 2).astype(str))) == 100


def test_clustered_intervals_cover_where_plain_ones_do_not() -> None:
    """Images differ (beta-binomial), 5 raters each: the share of samples whose interval holds the truth."""
    stream = np.random.default_rng(1)
    covered = {"clustered": 0, "plain": 0}
    images = pd.Series(np.repeat(np.arange(60), 5).astype(str))
    for _ in range(300):
        chosen = pd.Series(stream.random(300) < np.repeat(stream.beta(0.6, 1.4, 60), 5))
        for name, n in (("clustered", effective_votes(chosen, images)), ("plain", 300.0)):
            low, high = wilson(chosen.mean(), n)
            covered[name] += low <= 0.3 <= high
    assert covered["clustered"] / 300 > 0.91
    assert covered["plain"] / 300 < 0.85


def test_where_nothing_varies_the_images_count() -> None:
    images = pd.Series(["1", "1", "2", "2"])
    assert effective_votes(pd.Series([False] * 4), images) == 2
    assert effective_votes(pd.Series([True] * 4), images) == 2


@pytest.fixture
def voted(store: ResultsStore) -> Iterator[None]:
    """Votes for trials on whichever side: ada on 4 images, bob on 3; taken back after the test."""
    a, b = "salf_cbm-5-0", "standard-1-0"
    votes = [
        (1, "ada", a),
        (2, "ada", a),
        (3, "ada", b),
        (4, "ada", ""),
        (1, "bob", a),
        (2, "bob", b),
        (3, "bob", b),
    ]
    for image, voter, chosen in votes:
        left, right = (a, b) if image % 2 else (b, a)
        choice = {left: "left", right: "right"}.get(chosen, "tie")
        store.record_preference({
            "experiment": "small", "image_id": str(image), "left_trial": left, "right_trial": right,
            "choice": choice, "voter": voter,
        })  # fmt: skip
    yield
    for _, voter, _ in votes:
        assert store.forget_last_preference("small", (a, b), voter)


def test_votes_count_for_the_trial_whichever_side_it_stood_on(store: ResultsStore, voted: None) -> None:
    ada, bob, everyone = preferences(store, "small").to_dict("records")
    assert (ada["a"], ada["b"]) == ("salf_cbm salf_cbm", "standard standard")
    assert [ada[f"{name}_share"] for name in ("a", "b", "discord")] == [0.5, 0.25, 0.25]
    assert [bob[f"{name}_share"] for name in ("a", "b", "discord")] == pytest.approx([1 / 3, 2 / 3, 0])
    plain = binomtest(2, 4).proportion_ci(method="wilson")
    assert (ada["a_ci_low"], ada["a_ci_high"]) == pytest.approx((plain.low, plain.high))
    assert (everyone["rater"], everyone["n"], everyone["images"]) == ("all", 7, 4)
    assert everyone["a_share"] == pytest.approx(3 / 7)


def test_the_command_prints_percentages_or_json(url: str, voted: None) -> None:
    result = CliRunner().invoke(app, ["preferences", "small", "--results", url])
    assert result.exit_code == 0, result.output
    assert "50.0 % [15.0, 85.0]" in result.output
    rows = json.loads(CliRunner().invoke(app, ["preferences", "small", "--json", "--results", url]).stdout)
    assert [row["rater"] for row in rows] == ["ada", "bob", "all"]


def test_without_votes_the_command_says_how_to_vote(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/results.db"
    empty = ResultsStore.open(address)
    empty.begin_launch("new", spec="", plan={}, command="run")
    result = CliRunner().invoke(app, ["preferences", "new", "--results", address])
    assert result.exit_code == 2
    assert "no votes: python -m grid prefer new" in result.output
