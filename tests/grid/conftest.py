"""Worlds for the grid's tests: a home of their own, a few toybirds, a small CLIP, and no weights from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from components.data.generators.toybirds import Toybirds
from components.data.images import ImageIndex
from grid.inputs.datasets import Dataset
from grid.planning.plan import Plan, make_plan
from grid.results.throughput import Throughput
from grid.spec.spec import parse_spec

if TYPE_CHECKING:
    from tests.grid.finished_world import Finished

ROOT = Path(__file__).resolve().parents[2]
COUNTED = Path(__file__).parent / "counted"
PLACES = (
    "CONCEPTGRID_RESULTS_URL",
    "CONCEPTGRID_STORAGE",
    "CONCEPTGRID_DATA",
    "CONCEPTGRID_WEIGHTS",
    "MLFLOW_TRACKING_URI",
)


def at_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes it the CONCEPTGRID_HOME of this process, which is told of no other place."""
    for place in PLACES:
        patch.delenv(place, raising=False)
    patch.setenv("CONCEPTGRID_HOME", str(home))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CONCEPTGRID_HOME, in this process too."""
    at_home(tmp_path / "home", monkeypatch)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few toybirds on disk: 64 for training, 32 each for validation and test."""
    root = tmp_path_factory.mktemp("birds") / "toybirds"
    Toybirds(n_train=64, n_val=32, n_test=32).generate(root)
    return root


@pytest.fixture(scope="session")
def finished_once(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> "Finished":
    """Trials that really ran on the birds, in a home of their own."""
    from tests.grid.finished_world import finish_trials

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        at_home(home, patch)
        return finish_trials(birds, home)


@pytest.fixture(scope="module")
def finished(finished_once: "Finished") -> "Iterator[Finished]":
    """The same, at home in this process."""
    with pytest.MonkeyPatch.context() as patch:
        at_home(finished_once.home, patch)
        yield finished_once


def unread_birds(fingerprint: str = "f") -> Dataset:
    """Ten toybirds to plan with, which no file has."""
    n = 10
    index = ImageIndex(
        root=Path("/data"),
        image_ids=np.arange(n),
        paths=np.array([f"{i}.jpg" for i in range(n)], dtype=object),
        labels=np.zeros(n, np.int64),
        groups=np.zeros(n, np.int64),
        splits=np.array(["train"] * n, dtype=object),
        classes=("a", "b"),
        group_names=("a", "b"),
    )
    return Dataset(load_card("toybirds"), Path("/data"), index, fingerprint)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """Plans methods, and what else a spec says, on unread birds with nothing done or cached."""

    def planned(*methods: dict[str, Any], **content: Any) -> Plan:
        spec = parse_spec(
            {"name": "t", **content, "datasets": ["toybirds"], "methods": list(methods)}, "t.yaml"
        )
        hashes = FileHashes(tmp_path / "hashes.json")
        return make_plan(spec, [unread_birds()], hashes, lambda key: False, lambda ids: {}, Throughput(), [])

    return planned


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec from keywords; `name` comes first."""

    def write(**content: Any) -> Path:
        path = tmp_path / f"{content.get('name', 'spec')}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


class Shell:
    """Runs `python -m …` from the repository's root in a process of its own, with a home of its own."""

    def __init__(self, home: Path, log: Path, **environment: str) -> None:
        self.home, self.log = home, log
        kept = {k: v for k, v in os.environ.items() if k not in PLACES}
        self.environment = {
            **kept,
            "CONCEPTGRID_HOME": str(home),
            "PYTHONPATH": str(COUNTED),
            "COUNTED_LOG": str(log),
            **environment,
        }

    def start(self, *arguments: str, background: bool = False) -> subprocess.Popen[str]:
        """The command, running, in a session of its own. background: with SIGINT ignored, as a shell starts
        what it does not wait for; else it is not, even if these tests run so and their children inherit it."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=self.environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def run(self, *arguments: str, status: int = 0, timeout: float = 240) -> str:
        """Runs it to the end and returns what it printed; the exit status must be `status`."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == status, output
        return output

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, by the command that users have, but in this process: to start one takes
        longer than all queries of a test."""
        from typer.testing import CliRunner

        from analysis.cli import app

        with pytest.MonkeyPatch.context() as patch:
            at_home(self.home, patch)
            answer = CliRunner().invoke(app, ["sql", query, "--json"])
        assert answer.exit_code == 0, answer.output
        rows: list[dict[str, Any]] = json.loads(answer.stdout)
        return rows

    def images_embedded(self) -> int:
        """Images that the image tower of CLIP has really seen, in whatever process."""
        if not self.log.exists():
            return 0
        return sum(int(line.split()[1]) for line in self.log.read_text().splitlines())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "counted.log")
