"""The commands: what they print for people and programs, and how they refuse."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from analysis.cli import app
from analysis.tables import varying_knobs
from tests.grid.results.fraction_interval import fraction_interval

T_2 = 4.302652729911275  # 97.5 % quantile of Student's t with 2 degrees of freedom


def call(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--results", url])


def rows(url: str, *arguments: str) -> list[dict[str, Any]]:
    result = call(url, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_ablation(url: str) -> None:
    five, ten = rows(url, "ablation", "small")
    half = T_2 * 0.02 / math.sqrt(3)
    assert (five["value"], five["mean"]) == ("5", pytest.approx(0.62))
    assert (five["ci_low"], five["ci_high"]) == pytest.approx(fraction_interval([0.60, 0.62, 0.64]))
    # by seed: .10, .12, .08
    assert ten["difference"] == pytest.approx(0.10)
    assert ten["difference_ci_low"] == pytest.approx(0.10 - half)
    assert five["difference"] is None
    assert rows(url, "ablation", "small", "--parameter", "fixed") == []


def test_leaderboard(url: str) -> None:
    table = rows(url, "leaderboard", "--experiment", "small")
    assert [row["knobs"] for row in table] == ["k_top=10", "k_top=5", ""]
    assert [row["on_failed"] for row in table] == ["wrong", "wrong", "drop"]
    assert len(rows(url, "leaderboard", "--limit", "1")) == 1
    assert rows(url, "leaderboard", "--dataset", "other") == []


def test_scores_are_any_numbers_with_their_intervals(url: str) -> None:
    (best, *_) = (row for row in rows(url, "scores", "small", "--metric", "worst_group_accuracy")
                  if row["knobs"] == "k_top=10")  # fmt: skip
    assert (best["mean"], best["n"]) == (pytest.approx(0.72), 3)
    assert (best["ci_low"], best["ci_high"]) == pytest.approx(fraction_interval([0.70, 0.72, 0.74]))
    printed = call(url, "scores", "small", "--metric", "worst_group_accuracy").stdout
    assert "k_top=10" in printed
    assert "0.720 [" in printed
    refused = call(url, "scores", "small", "--metric", "worst_accuracy")
    assert refused.exit_code == 2
    assert "worst_group_accuracy" in refused.output


def test_knobs_that_vary_are_shown() -> None:
    configs = [
        '{"k": 5, "fixed": 1, "seed": 0, "seg": {"name": "slic", "scale": 3}}',
        '{"k": 9, "fixed": 1, "seed": 1, "seg": {"name": "grid", "rows": 7}}',
    ]
    table = pd.DataFrame({"method": "m", "config": configs})
    assert varying_knobs(table) == ["k=5 seg.name=slic", "k=9 seg.name=grid"]


def test_compare_takes_the_configuration_that_validation_prefers(url: str) -> None:
    (row,) = rows(url, "compare", "small", "standard", "salf_cbm")
    # by seed: .30, .30, .30
    assert (row["n"], row["difference"]) == (3, pytest.approx(0.30))
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(0.30), pytest.approx(0.30))
    assert row["mean_b"] == pytest.approx(0.72)


def test_sql(url: str) -> None:
    assert rows(url, "sql", "SELECT COUNT(*) AS n, NULL AS x FROM trial") == [{"n": 10, "x": None}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ablation", "small"),
        ("leaderboard",),
        ("compare", "small", "standard", "salf_cbm"),
        ("sql", "SELECT id, config FROM trial"),
    ],
)
def test_pipes_get_text_without_escapes_or_cuts(url: str, arguments: tuple[str, ...]) -> None:
    result = call(url, *arguments)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "…" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("ablation", "unknown"),
        ("leaderboard", "--experiment", "unknown"),
        ("compare", "small", "standard", "unknown"),
        ("report", "unknown"),
        ("sql", "DELETE FROM trial"),
    ],
)
def test_refusals_are_one_line_and_status_2(url: str, arguments: tuple[str, ...]) -> None:
    result = call(url, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_without_a_results_store_there_is_one_line(tmp_path: Path) -> None:
    result = call(f"sqlite:///{tmp_path}/none.db", "sql", "SELECT 1")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "run an experiment first" in result.stderr
