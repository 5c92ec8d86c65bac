"""The table of weights, fetching them from a loopback server, and what is wrong with them later."""

import errno
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from components.models.clip.clip import Clip
from components.models.weights.checkpoints import ROOT
from grid.commands.cli import main
from grid.inputs import weights, weights_fetch
from grid.spec.spec import load_spec

CONTENT = bytes(range(256)) * 5000  # 1.2 MiB: more than one chunk


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`. `cut`: the connection is closed after so many bytes, once; `ranges`: whether it can
    go on in the middle of a file; `redirects`: path to address; `asked`: path and headers of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.cut: int | None = None
        self.ranges, self.stalls = True, False
        self.asked: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.asked.append((path, dict(self.headers)))
        if path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[path])
            self.end_headers()
            return
        if path not in self.server.files:
            self.send_error(404)
            return
        content, start = self.server.files[path], 0
        if self.server.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(content[start:cut])
        while self.server.stalls:
            time.sleep(0.05)

    def log_message(self, *arguments: Any) -> None:
        pass


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


# The table


@pytest.mark.parametrize("spec", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_weight_that_a_shipped_spec_names_is_in_the_table_or_in_the_repository(spec: Path) -> None:
    for name in weights.names_in(load_spec(spec)):
        assert name in weights.table() or (ROOT / name).exists(), name


def test_the_table_agrees_with_the_libraries() -> None:
    from huggingface_hub.utils import validate_repo_id

    for name, entry in weights.table().items():
        sums = [entry.sha256] if isinstance(entry.sha256, str) else entry.sha256.values()
        assert all(set(value) <= set("0123456789abcdef") and 8 <= len(value) <= 64 for value in sums), name
        match entry.source.kind:
            case "torchvision":  # whose file names carry the beginning of the sum
                url = weights_fetch._torchvision_url(entry.source.address)
                assert url.endswith(f"/{name}")
                assert isinstance(entry.sha256, str)
                assert entry.sha256[:8] == name.rpartition("-")[2].removesuffix(".pth")
            case "open_clip":
                assert weights_fetch._clip_repository(entry.source.address), name
            case "hub":
                validate_repo_id(entry.source.address)
            case "url":
                assert entry.source.address.endswith(f"/{name}")


def test_the_list_says_what_is_here(
    grid: Callable[..., tuple[int, str, str]], folder: Path, write_spec: Callable[..., Path]
) -> None:
    (folder / "IDEA-Research/grounding-dino-tiny").mkdir(parents=True)
    status, out, _ = grid("weights", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert rows["IDEA-Research/grounding-dino-tiny"]["path"] == str(
        folder / "IDEA-Research/grounding-dino-tiny"
    )
    assert rows["sam_vit_b_01ec64.pth"]["path"] is None
    assert rows["sam_vit_b_01ec64.pth"]["bytes"] == 375_042_383
    spec = write_spec(name="one", datasets=["toybirds"], methods=[{"method": "seg_mil_cbm"}])
    _, out, _ = grid("weights", "list", str(spec))
    assert "ViT-B-32/openai" in out
    assert "sam_vit_b" not in out


# Fetching a file


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


# What is wrong later


def flip_a_byte(path: Path) -> None:
    """As a bad disk would: size and time of modification stay."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_check_finds_a_flipped_byte_a_lost_file_and_missing_weights(
    grid: Callable[..., tuple[int, str, str]], sam: str, folder: Path, hub: Callable[..., None]
) -> None:
    hub("someone/model", {"config.json": b"{}", "model.safetensors": CONTENT})
    assert grid("weights", "fetch", sam, "someone/model")[0] == 0
    flip_a_byte(folder / sam)
    (folder / "someone/model/config.json").unlink()
    status, out, _ = grid("weights", "check")
    assert status == 1
    wrong = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 2
    assert "corrupted" in wrong[0]
    assert wrong[0].endswith("python -m grid weights fetch sam.pth --again")
    assert "incomplete: no " in wrong[1]
    assert "config.json" in wrong[1]
    assert grid("weights", "fetch", sam)[0] == 1  # says so, and keeps what is there
    assert grid("weights", "fetch", sam, "someone/model", "--again")[0] == 0
    assert grid("weights", "check")[0] == 0
    status, out, _ = grid("weights", "check", "no/where")
    assert status == 1
    assert "fetch no/where" in out


def test_a_run_with_corrupted_weights_stops_before_anything_starts(
    grid: Callable[..., tuple[int, str, str]],
    folder: Path,
    home: Path,
    birds: Path,
    hub: Callable[..., None],
    tiny_clip: Path,
    write_spec: Callable[..., Path],
) -> None:
    hub("someone/clip", {path.name: path.read_bytes() for path in tiny_clip.iterdir()})
    assert grid("weights", "fetch", "someone/clip")[0] == 0
    spec = write_spec(
        name="small",
        datasets=[{"name": "toybirds", "root": str(birds)}],
        methods=[{"method": "seg_mil_cbm", "clip": {"checkpoint": "someone/clip"}}],
    )
    doctor = {row["check"]: row for row in json.loads(grid("doctor", str(spec), "--json")[1])}
    assert doctor["weights"]["ok"]
    file = folder / "someone/clip/open_clip_model.safetensors"
    should = sha256(file.read_bytes())
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    status, _, err = grid("run", str(spec))
    assert status == 2
    (line,) = err.strip().splitlines()
    assert f"sha256 of {file} is {sha256(file.read_bytes())}, should be {should}" in line
    assert "python -m grid weights fetch someone/clip --again" in line
    assert not (home / "artifacts" / "stages").exists()
    status, out, _ = grid("doctor", str(spec))
    assert status == 1
    assert "MISSING weights 'someone/clip': corrupted" in out
