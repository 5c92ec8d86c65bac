"""Long work is told, short work is not; what is told never stands among what a program reads."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.data.fingerprint import FileHashes
from grid import progress
from grid.commands.cli import main
from grid.inputs.datasets import locate, read
from grid.progress import Display
from grid.run import _resolved_plan
from grid.spec.spec import DatasetEntry, parse_spec
from grid.stores.world import open_world

N_BIRDS = 64 + 32 + 32


class Clock:
    """Stands still unless it is told to go on, or by `step` seconds whenever it is read."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=found.monotonic))
    return found


def work(clock: Clock, display: Display, seconds: int, patience: float) -> list[bool]:
    """A task of an image a second; whether a terminal shows it after each."""
    task = display.task("work", seconds, "images", patience)
    shown = []
    for done in range(1, seconds + 1):
        clock.now += 1
        task.update(done)
        shown.append(any(row.visible for row in display._bar.tasks))
    task.finish(f"{seconds} images")
    return shown


@pytest.mark.parametrize(
    ("seconds", "patience", "lines"),
    [
        (3, 4.0, []),
        (4, 4.0, ["work: 4 images"]),
        (3, 0.0, ["work: 3 images"]),
        (
            25,
            4.0,
            [
                "work: 10/25 0.9 images/s, 17 s left",  # 9 images since the first, in 10 s
                "work: 20/25 0.9 images/s, 5 s left",
                "work: 25 images",
            ],
        ),
    ],
)
def test_a_log_has_lines_of_what_lasts(
    clock: Clock, capsys: pytest.CaptureFixture[str], seconds: int, patience: float, lines: list[str]
) -> None:
    with Display() as display:
        work(clock, display, seconds, patience)
    assert capsys.readouterr().out.splitlines() == lines


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error from now on. (No fixture: pytest's own comes after them.)"""
    found = io.StringIO()
    monkeypatch.setattr(found, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_a_terminal_has_a_bar_of_what_lasts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    said = terminal(monkeypatch)
    with Display(stderr=True) as display:
        assert work(clock, display, 5, patience=3) == [False, False, True, True, True]
        assert display._bar.tasks == []
    assert "work: 5 images" in said.getvalue()


def test_a_data_set_is_fingerprinted_image_by_image(
    clock: Clock, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each image costs a reading of the clock or more; a line comes every ten seconds."""
    source, hashes = (
        locate(DatasetEntry(name="toybirds", root=str(birds))),
        FileHashes(tmp_path / "hashes.json"),
    )
    with Display() as display:
        silent = read(source, hashes, display)
        assert capsys.readouterr().out == ""
        clock.step = 1.0
        told = read(source, hashes, display)
    assert told.fingerprint == silent.fingerprint
    *lines, last = capsys.readouterr().out.splitlines()
    counted = [
        int(line.removeprefix("fingerprinting toybirds: ").partition(f"/{N_BIRDS} ")[0]) for line in lines
    ]
    assert 5 < len(counted) < N_BIRDS
    assert counted == sorted(counted)
    assert counted[-1] <= N_BIRDS
    assert last.startswith(f"fingerprinting toybirds: {N_BIRDS} images in ")


def test_what_a_program_reads_is_the_plan_alone(
    clock: Clock,
    home: Path,
    birds: Path,
    write_spec: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock.step = 1.0
    data: list[dict[str, Any]] = [{"name": "toybirds", "root": str(birds)}]
    spec = write_spec(name="told", datasets=data, methods=[{"method": "standard"}])
    monkeypatch.setattr(sys, "argv", ["grid", "plan", str(spec), "--json"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    assert json.loads(said.out)["trials"] == 1
    assert f"fingerprinting toybirds: {N_BIRDS} images" in said.err


def test_only_what_is_not_there_is_drawn_and_no_bar_is_left(
    home: Path, birds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = terminal(monkeypatch)
    few = {"n_train": 8, "n_val": 4, "n_test": 4}
    data = [{"name": "toybirds", "generator": few}, {"name": "waterpets", "root": str(birds)}]
    spec = parse_spec({"name": "drawn", "datasets": data, "methods": [{"method": "standard"}]}, "test")
    with Display(stderr=True) as display:
        plan = _resolved_plan(spec, open_world(None, None), display)
        assert display._bar.tasks == []
    assert [len(found.index or ()) for found in plan.datasets] == [sum(few.values()), N_BIRDS]
    assert "drawing toybirds: " in said.getvalue()
    assert "drawing waterpets" not in said.getvalue()
