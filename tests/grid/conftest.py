"""Worlds for the grid's tests: a home of their own, a few toybirds, a small CLIP, and no weights from outside."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.generators.toybirds import Toybirds

ROOT = Path(__file__).resolve().parents[2]
COUNTED = Path(__file__).parent / "counted"
PLACES = (
    "CONCEPTGRID_RESULTS_URL",
    "CONCEPTGRID_STORAGE",
    "CONCEPTGRID_DATA",
    "CONCEPTGRID_WEIGHTS",
    "MLFLOW_TRACKING_URI",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CONCEPTGRID_HOME, in this process too."""
    for place in PLACES:
        monkeypatch.delenv(place, raising=False)
    monkeypatch.setenv("CONCEPTGRID_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few toybirds on disk: 64 for training, 32 each for validation and test."""
    root = tmp_path_factory.mktemp("birds") / "toybirds"
    Toybirds(n_train=64, n_val=32, n_test=32).generate(root)
    return root


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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *arguments: str, status: int = 0, timeout: float = 240) -> str:
        """Runs it to the end and returns what it printed; the exit status must be `status`."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == status, output
        return output

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, through the command that users have."""
        rows: list[dict[str, Any]] = json.loads(self.run("analysis", "sql", query, "--json"))
        return rows

    def images_embedded(self) -> int:
        """Images that the image tower of CLIP has really seen, in whatever process."""
        if not self.log.exists():
            return 0
        return sum(int(line.split()[1]) for line in self.log.read_text().splitlines())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "counted.log")
