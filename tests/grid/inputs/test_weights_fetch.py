"""Fetching weights from a loopback server that breaks off, lies and redirects."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.models.clip.clip import Clip
from components.models.weights.checkpoints import ROOT
from grid.inputs import weights, weights_fetch
from tests.grid.inputs.file_server import CONTENT, Server, sha256


def test_a_file_arrives_whole_and_its_sum_is_recorded(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, server: Server
) -> None:
    assert grid("weights", "fetch", sam)[0] == 0
    assert (folder / sam).read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == ["sam.pth", "sam.pth.sha256"]
    subprocess.run(["sha256sum", "--check", "--strict", "sam.pth.sha256"], cwd=folder, check=True)
    assert grid("weights", "check", sam)[0] == 0
    assert grid("weights", "fetch", sam)[0] == 0  # is here already
    assert len(server.asked) == 1
    assert grid("weights", "fetch", sam, "--again")[0] == 0
    assert len(server.asked) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_leaves_nothing_under_the_name_and_the_next_call_goes_on(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, server: Server, ranges: bool
) -> None:
    server.cut, server.ranges = 700_000, ranges
    status, _, err = grid("weights", "fetch", sam)
    assert status == 1
    assert "ended early; the same command goes on" in err
    assert not (folder / sam).exists()
    assert grid("weights", "fetch", sam)[0] == 0
    assert (folder / sam).read_bytes() == CONTENT
    assert server.asked[1][1]["Range"] == "bytes=700000-"


def test_what_is_left_of_a_longer_file_is_thrown_away(
    grid: Callable[..., tuple[int, str, str]], server: Server, entries: Callable[..., None], folder: Path
) -> None:
    server.files["small.pth"] = b"short"
    entries(**{"small.pth": {"source": {"kind": "url", "address": server.url("small.pth")}}})
    folder.mkdir()
    (folder / ".small.pth.partial").write_bytes(b"much longer than that")
    assert grid("weights", "fetch", "small.pth")[0] == 0
    assert (folder / "small.pth").read_bytes() == b"short"


def test_a_killed_fetch_leaves_nothing_under_the_name_and_can_be_repeated(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, server: Server
) -> None:
    server.cut, server.stalls = 600_000, True
    code = (
        "import sys; from pathlib import Path; from grid.commands.cli import main; from grid.inputs import weights\n"
        f"weights.TABLE = Path({str(weights.TABLE)!r}); sys.argv = ['grid', 'weights', 'fetch', '{sam}']\n"
        "main()"
    )
    environment = {**os.environ, "CONCEPTGRID_WEIGHTS": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    partial = folder / f".{sam}.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and server.asked) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / sam).exists()
    server.stalls = False
    assert grid("weights", "fetch", sam)[0] == 0
    assert (folder / sam).read_bytes() == CONTENT


def test_another_content_than_the_published_is_removed(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, server: Server
) -> None:
    server.files[sam] = CONTENT[:-1] + b"!"
    status, _, err = grid("weights", "fetch", sam)
    assert status == 1
    (line,) = err.strip().splitlines()
    assert sha256(server.files[sam]) in line
    assert sha256(CONTENT) in line
    assert list(folder.iterdir()) == []


def test_no_network_is_one_line(
    grid: Callable[..., tuple[int, str, str]], entries: Callable[..., None], folder: Path
) -> None:
    entries(
        **{
            "sam.pth": {"source": {"kind": "url", "address": "http://127.0.0.1:1/sam.pth"}},
            "gone.pth": {"source": {"kind": "none", "address": "make it yourself"}},
        }
    )
    status, _, err = grid("weights", "fetch", "sam.pth", "gone.pth")
    assert status == 1
    offline, nowhere = err.strip().splitlines()
    assert "cannot reach http://127.0.0.1:1/sam.pth" in offline
    assert "copy the folder" in offline
    assert "published nowhere: make it yourself" in nowhere


def test_an_address_without_the_file_is_one_line(
    grid: Callable[..., tuple[int, str, str]], sam: str, server: Server, folder: Path
) -> None:
    server.files.clear()
    status, _, err = grid("weights", "fetch", sam)
    assert (status, len(err.strip().splitlines())) == (1, 1)
    assert "404" in err


def test_a_full_disk_is_said_before_and_during(
    grid: Callable[..., tuple[int, str, str]],
    sam: str,
    server: Server,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
        status, _, err = grid("weights", "fetch", sam)
    assert (status, server.asked) == (1, [])
    assert "too full: 1 MiB free, 1 MiB needed" in err

    def fails(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(weights_fetch, "_copy", fails)
        status, _, err = grid("weights", "fetch", sam)
    assert status == 1
    assert "is full" in err
    assert not (folder / sam).exists()


def test_where_to_and_what_must_be_said(
    grid: Callable[..., tuple[int, str, str]], sam: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONCEPTGRID_WEIGHTS", raising=False)
    status, _, err = grid("weights", "fetch", sam)
    assert status == 2
    assert "set CONCEPTGRID_WEIGHTS" in err
    assert grid("weights", "fetch", "--to", str(tmp_path))[0] == 2
    status, out, _ = grid("weights", "fetch", sam, "--to", str(tmp_path / "there"))
    assert status == 0
    assert f"export CONCEPTGRID_WEIGHTS={tmp_path / 'there'}" in out
    assert (tmp_path / "there" / sam).is_file()


@pytest.mark.parametrize("name", ["sma.pth", "../sam.pth", "/etc/passwd", "a/b/c", "~/x", "a/.."])
def test_a_name_that_nothing_has_is_refused(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, name: str
) -> None:
    status, _, err = grid("weights", "fetch", name)
    assert status == 2
    assert "there is: sam.pth" in err
    assert not folder.exists()


# Fetching a folder


def test_a_repository_of_the_hub_without_its_pickles(
    grid: Callable[..., tuple[int, str, str]], folder: Path, server: Server, hub: Callable[..., None]
) -> None:
    wanted = {"config.json": b"{}", "vocab.txt": b"a\nb\n", "model.safetensors": CONTENT}
    others = {"pytorch_model.bin": b"code", "model.fp16.safetensors": b"half", "onnx/model.json": b"{}"}
    hub("someone/detector", {**wanted, **others, "README.md": b"hello"})
    assert grid("weights", "fetch", "someone/detector")[0] == 0
    here = folder / "someone/detector"
    assert {path.name: path.read_bytes() for path in here.iterdir()} == wanted
    assert sorted(path.name for path in here.parent.iterdir()) == ["detector", "detector.sha256"]
    assert {path.rpartition("/")[2] for path, _ in server.asked} == set(wanted)
    status, out, _ = grid("weights", "check")
    assert status == 0
    assert "someone/detector: as published or recorded" in out
    record = here.with_name("detector.sha256")
    record.write_text(record.read_text()[:40])
    status, out, _ = grid("weights", "check")
    assert status == 1
    assert f"WRONG   weights 'someone/detector': {record} is no list of sha256 sums; " in out
    assert "python -m grid weights fetch someone/detector --again" in out


def test_a_folder_goes_on_with_the_files_that_are_missing(
    grid: Callable[..., tuple[int, str, str]], folder: Path, server: Server, hub: Callable[..., None]
) -> None:
    hub("someone/model", {"config.json": b"{}", "model.safetensors": CONTENT})
    kept, server.files = dict(server.files), {k: v for k, v in server.files.items() if k.endswith(".json")}
    assert grid("weights", "fetch", "someone/model")[0] == 1
    assert not (folder / "someone/model").exists()
    server.files = kept
    assert grid("weights", "fetch", "someone/model")[0] == 0
    assert [path.rpartition("/")[2] for path, _ in server.asked] == [
        "config.json",
        "model.safetensors",
        "model.safetensors",
    ]


def test_a_file_that_is_not_what_the_hub_says_is_removed(
    grid: Callable[..., tuple[int, str, str]], folder: Path, hub: Callable[..., None]
) -> None:
    hub("someone/model", {"model.safetensors": CONTENT}, lfs={"model.safetensors": sha256(b"other")})
    status, _, err = grid("weights", "fetch", "someone/model")
    assert status == 1
    assert sha256(b"other") in err
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_pickles_alone_and_an_unreachable_hub_are_one_line_each(
    grid: Callable[..., tuple[int, str, str]], folder: Path, hub: Callable[..., None]
) -> None:
    hub("someone/pickled", {"pytorch_model.bin": b"code", "config.json": b"{}"})
    status, _, err = grid("weights", "fetch", "someone/pickled", "someone/else")
    assert status == 1
    pickled, unreachable = err.strip().splitlines()
    assert "no safetensors" in pickled
    assert "cannot reach the Hugging Face Hub" in unreachable


def test_a_token_goes_to_the_hub_and_not_where_it_redirects_to(
    grid: Callable[..., tuple[int, str, str]],
    folder: Path,
    server: Server,
    hub: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub("someone/gated", {"model.safetensors": CONTENT})
    first = "someone/gated/c0ffee/model.safetensors"
    server.files["elsewhere"] = server.files.pop(first)
    server.redirects[first] = server.url("elsewhere", "localhost")
    assert grid("weights", "fetch", "someone/gated")[0] == 0
    (_, asked), (path, redirected) = server.asked
    assert asked["Authorization"] == "Bearer hf_secret"
    assert path == "elsewhere"
    assert "hf_secret" not in str(redirected)


def test_a_pair_of_open_clip_becomes_a_folder_that_open_clip_loads(
    grid: Callable[..., tuple[int, str, str]], folder: Path, hub: Callable[..., None], tiny_clip: Path
) -> None:
    import open_clip

    repository = open_clip.get_pretrained_cfg("RN50", "cc12m")["hf_hub"].rstrip("/")
    files = {path.name: path.read_bytes() for path in tiny_clip.iterdir()}
    hub(repository, {**files, "model.safetensors": b"timm's tower alone", "open_clip_pytorch_model.bin": b""})
    assert grid("weights", "fetch", "RN50/cc12m")[0] == 0
    assert {path.name: path.read_bytes() for path in (folder / "RN50/cc12m").iterdir()} == files
    texts = ["a bird"]
    assert (
        Clip(checkpoint="RN50/cc12m").load("cpu").embed_texts(texts)
        == Clip(checkpoint=str(tiny_clip)).load("cpu").embed_texts(texts)
    ).all()
