"""Every command's answer as JSON, CSV, Markdown and LaTeX."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.answer import Answer
from analysis.cli import app
from analysis.commands.app import FORMS
from analysis.terminal import print_answer

COMMANDS = [
    ["ablation", "small"], ["leaderboard", "--experiment", "small"], ["pareto", "small"], ["reported"],
    ["scores", "small", "--metric", "average_accuracy"], ["compare", "small", "standard", "salf_cbm"],
    ["cost", "small"], ["cost"], ["sql", "SELECT name, created_at FROM experiment"],
]  # fmt: skip
NAMES = ["a & b", "50 %", "$x_1$", "#1 {set}", "~/^\\dir", "| pipe |", "[0.1, 0.2]", "two\nlines", "é"]
ODD = Answer(
    "100 % of\nβ", {"name": NAMES, "[n] of |": range(len(NAMES))}, [{"name": name} for name in NAMES], ["name"],
    ["a note_of\ntwo lines"],
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_forms_say_the_same(command: list[str], url: str) -> None:
    said = {}
    for form in FORMS:
        result = CliRunner().invoke(app, [*command, f"--{form}", "--results", url])
        assert result.exit_code == 0, result.output
        said[form] = result.stdout
    rows = json.loads(said["json"])
    written = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [dict.fromkeys(row) for row in written] == [dict.fromkeys(row) for row in rows]
    for row, text in zip(rows, written, strict=True):
        for name, value in row.items():
            assert text[name] == ("" if value is None else str(value))
    lines = [line for line in said["markdown"].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, "as many cells in every row"
    assert said["latex"].count("\\\\\n") == 1 + len(rows)
    assert all(f"\\{rule}rule" in said["latex"] for rule in ("top", "mid", "bottom"))


def test_two_forms_at_once_are_refused(url: str) -> None:
    result = CliRunner().invoke(app, ["ablation", "small", "--csv", "--json", "--results", url])
    assert result.exit_code == 2
    assert "one form at a time, not --json and --csv" in result.output


def test_a_table_without_rows_has_its_header(url: str) -> None:
    result = CliRunner().invoke(app, ["ablation", "small", "--parameter", "none", "--csv", "--results", url])
    assert result.stdout.startswith("experiment,form,dataset,")
    assert result.stdout.count("\n") == 1


def test_odd_characters_stay_in_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(ODD, "markdown")
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {3}
    print_answer(ODD, "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == NAMES


def test_latex_compiles(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With a TeX where there is one; else what it would stumble over is looked for."""
    print_answer(ODD, "latex")
    tables = [capsys.readouterr().out]
    for command in COMMANDS:
        tables.append(CliRunner().invoke(app, [*command, "--latex", "--results", url]).stdout)
    for table in tables:
        body = re.sub(r"(?<!\\)%.*", "", table)
        assert re.search(r"(?<!\\)[#$_]", body) is None, body
        assert body.count("{") == body.count("}")
        assert re.search(r"\\\\\n\s*\[", body) is None, "a bracket after a row's end is its argument"
    latex, finds = shutil.which("pdflatex"), shutil.which("kpsewhich")
    if (
        latex is None
        or finds is None
        or subprocess.run([finds, "booktabs.sty"], capture_output=True).returncode
    ):
        return
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + "\n\n".join(tables)
        + "\n\\end{document}\n"
    )
    done = subprocess.run([latex, "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
