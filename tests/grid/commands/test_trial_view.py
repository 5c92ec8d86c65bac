"""`show`: small tables by selection and group, and every number when it is asked for."""

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grid.commands.cli import app
from grid.results.store import ResultsStore, TrialEntry

NUMBERS = [
    ("worst_group_accuracy", "test", "all", "last", 0.123456789, None),
    ("worst_group_accuracy", "test", "all", "val_average", 0.5, None),
    ("average_accuracy", "test", "all", "last", math.nan, None),
    ("group_accuracy", "test", "bird on land", "last", 0.75, None),
    ("group_accuracy", "val", "bird on land", "last", 0.25, None),
    ("loss", "train", "all", "last", 9.0, 3),
    ("attention [0]", "test", "all", "last", 0.333333, None),
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/results.db"
    store = ResultsStore.open(url)
    entry = TrialEntry(
        id="abcdef0123",
        method="m",
        method_version=1,
        dataset="d",
        data_fingerprint="f",
        seed=0,
        config={"k": 5},
    )
    store.enter("e", [entry])
    names = ("name", "split", "group", "selection", "value", "step")
    report = {
        "attempt": store.claim(entry.id, None), "metrics": [dict(zip(names, n, strict=True)) for n in NUMBERS],
        "n_failed": 0, "on_failed": "wrong", "seconds": 3.14159, "provenance": {},
    }  # fmt: skip
    assert store.finish(entry.id, report)
    store.close()
    return url


def told(url: str, *more: str) -> list[list[str]]:
    done = CliRunner().invoke(app, ["show", "abc", "--results", url, *more])
    assert done.exit_code == 0, done.output
    return [line.split() for line in done.stdout.splitlines()]


def test_accuracies_stand_by_selection_and_by_group(url: str) -> None:
    lines = told(url)
    assert ["split", "accuracy", "last", "val_average"] in lines
    assert ["test", "worst_group", "0.123", "0.500"] in lines
    assert ["test", "average", "not", "a", "number"] in lines
    assert ["bird", "on", "land", "0.750"] in lines
    assert ["seconds:", "3.142"] in lines
    assert ["configuration:", "k=5"] in lines
    assert lines[-1] == ["2", "more", "numbers:", "python", "-m", "grid", "show", "abcdef01", "--all"]


def test_all_are_the_final_numbers(url: str) -> None:
    lines = told(url, "--all")
    assert ["attention", "[0]", "test", "all", "last", "0.333"] in lines
    assert ["group_accuracy", "val", "bird", "on", "land", "last", "0.250"] in lines
    assert not any(line[:1] == ["loss"] for line in lines), "curves are in SQL"
