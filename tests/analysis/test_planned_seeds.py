"""Every table says how many of the planned seeds it stands on, and why the others do not count."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis import tables
from analysis.cli import app
from analysis.compare import Wanted, compare
from analysis.page.report import write_report
from grid.results.store import ResultsStore
from tests.grid.results.test_planned_seeds import OUTCOMES, fill


@pytest.fixture
def home(tmp_path: Path) -> str:
    """URL of a store with configurations whose seeds failed or diverged, one trial of an earlier form."""
    url = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(url)
    fill(store, {**OUTCOMES, 6: (0.9,)})
    store.set_form("e", [f"k{k}-{seed}" for k in OUTCOMES for seed in range(3)])
    store.close()
    return url


@pytest.fixture
def store(home: str) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(home)
    yield opened
    opened.close()


def output(home: str, *arguments: str) -> list[str]:
    answer = CliRunner().invoke(app, [*arguments, "--results", home])
    assert answer.exit_code == 0, answer.output
    return answer.output.splitlines()


def line(lines: list[str], *words: str) -> str:
    (found,) = [line for line in lines if all(word in line for word in words)]
    return found


def test_the_leaderboard_names_seeds_that_do_not_count(home: str) -> None:
    lines = output(home, "leaderboard", "--experiment", "e")
    assert "2 of 3" in line(lines, "k=2")
    assert "1 of 3 seeds without a number" in line(lines, "k=2")
    assert "3 of 3 seeds failed" in line(lines, "k=3")
    assert "0 of 3" in line(lines, "k=4")
    assert "3 of 3 seeds without a number" in line(lines, "k=4")
    assert "1 of 3 seeds failed" in line(lines, "k=5")
    assert not [line for line in lines if "k=6" in line]


def test_all_shows_what_an_earlier_form_asked_for(home: str) -> None:
    assert "of an earlier form" in line(output(home, "leaderboard", "--experiment", "e", "--all"), "k=6")
    scores = output(home, "scores", "e", "--metric", "worst_group_accuracy", "--all")
    assert "of an earlier form" in line(scores, "k=6")
    assert "0.900" in line(scores, "k=6")


def test_scores_and_ablations_say_it_too(home: str) -> None:
    scores = output(home, "scores", "e", "--metric", "worst_group_accuracy")
    assert "1 of 3 seeds without a number" in line(scores, "k=2")
    assert "3 of 3 seeds failed" in line(scores, "k=3")
    lines = output(home, "ablation", "e", "--parameter", "k")
    assert "3 trials failed" in line(lines, "0 of 3", "failed")
    assert "3 trials without a number" in line(lines, "0 of 3", "number")


def test_a_comparison_counts_the_seeds_of_both(store: ResultsStore) -> None:
    table = tables.leaderboard(store, experiment="e")
    ids = {row["knobs"]: row["config_id"] for row in tables.records(table)}
    found = compare(store, Wanted("e"), ids["k=1"], ids["k=2"]).iloc[0]
    assert (found["n"], found["n_planned"]) == (2, 3)


def test_the_report_lists_lost_configurations_and_trials(store: ResultsStore, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(store, "e", path)
    page = path.read_text()
    for told in (
        "2 of 3", "3 of 3 seeds failed", "3 of 3 seeds without a number", "3 trials failed",
        "4 trials whose accuracies are not numbers", "of an earlier form of the spec",
    ):  # fmt: skip
        assert told in page, told
