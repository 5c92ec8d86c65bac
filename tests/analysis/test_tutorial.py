"""The tutorial's commands print what the page shows, on the numbers of the demo that lie beside the pages."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.cli import app
from grid.results.store import ResultsStore, TrialEntry

PAGE = Path("docs/tutorial.md").read_text()
ROWS = Path("docs/results/demo")
SHOWN = re.findall(r"```bash\npython -m analysis ([^\n]+)\n```\n\n```(?:latex)?\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a store with the demo's trials."""
    url = f"sqlite:///{tmp_path_factory.mktemp('demo')}/results.db"
    store = ResultsStore.open(url)
    numbers = dict(list(pd.read_csv(ROWS / "numbers.csv").groupby("trial")))
    trials = pd.read_csv(ROWS / "trials.csv").to_dict("records")
    entries = [
        TrialEntry(
            id=row["trial"], method=row["method"], method_version=row["method_version"], dataset=row["dataset"],
            data_fingerprint=row["data_fingerprint"], seed=row["seed"], config=json.loads(row["config"]),
        )
        for row in trials
    ]  # fmt: skip
    store.enter("demo", entries)
    launch = store.begin_launch("demo", spec="", plan={}, command="")
    for row in trials:
        own = numbers[row["trial"]].rename(columns={"metric": "name", "group_name": "group"})
        report = {
            "attempt": store.claim(row["trial"], launch), "metrics": own.to_dict("records"), "provenance": {},
            **{name: row[name] for name in ("n_failed", "on_failed", "seconds")},
        }  # fmt: skip
        assert store.finish(row["trial"], report)
    store.close()
    return url


def test_the_tutorial_has_outputs() -> None:
    assert len(SHOWN) >= 5


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_the_page_shows(command: str, output: str, demo: str) -> None:
    done = CliRunner().invoke(app, [*shlex.split(command, comments=True), "--results", demo])
    assert done.exit_code == 0, done.output
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    assert printed == [line.rstrip() for line in output.splitlines()]
