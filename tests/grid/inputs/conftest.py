"""A folder for weights, a table of them, the command, and the Hub as a server on the loopback."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from grid.commands.cli import main
from grid.inputs import weights
from tests.grid.inputs.file_server import CONTENT, Server, sha256


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.stalls = False
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CONCEPTGRID_WEIGHTS: a folder that is not there yet."""
    monkeypatch.setenv("CONCEPTGRID_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts another table in the place of the repository's."""

    def write(**table: Any) -> None:
        defaults = {"model": "any", "licence": "any"}
        path = tmp_path / "weights.yaml"
        path.write_text(yaml.safe_dump({name: {**defaults, **entry} for name, entry in table.items()}))
        monkeypatch.setattr(weights, "TABLE", path)
        weights.table.cache_clear()

    yield write
    monkeypatch.undo()
    weights.table.cache_clear()


@pytest.fixture
def sam(server: Server, entries: Callable[..., None]) -> str:
    """One file in the table, which the server has."""
    server.files["sam.pth"] = CONTENT
    source = {"kind": "url", "address": server.url("sam.pth")}
    entries(**{"sam.pth": {"source": source, "sha256": sha256(CONTENT), "bytes": len(CONTENT)}})
    return "sam.pth"


@pytest.fixture
def grid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit status, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grid", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The Hub, as the server: a repository with these files; those named `lfs` carry their sum."""
    import huggingface_hub

    held: dict[str, Any] = {}

    def model_info(self: Any, repository: str, **options: Any) -> Any:
        if repository not in held:
            raise ConnectionError(f"no {repository}")
        return SimpleNamespace(sha="c0ffee", siblings=held[repository])

    def hf_hub_url(repository: str, file: str, revision: str) -> str:
        return server.url(f"{repository}/{revision}/{file}")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", hf_hub_url)

    def put(repository: str, files: dict[str, bytes], lfs: dict[str, str] | None = None) -> None:
        sums = {name: sha256(files[name]) for name in files if name.endswith((".safetensors", ".bin"))}
        sums |= lfs or {}
        held[repository] = [
            SimpleNamespace(
                rfilename=name,
                size=len(content),
                lfs=SimpleNamespace(sha256=sums[name]) if name in sums else None,
            )
            for name, content in files.items()
        ]
        server.files |= {f"{repository}/c0ffee/{name}": content for name, content in files.items()}

    return put
