"""The table of weights, and what is wrong with weights that are here."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.models.weights.checkpoints import ROOT
from grid.inputs import weights, weights_fetch
from grid.spec.spec import load_spec
from tests.grid.inputs.file_server import CONTENT, sha256


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
