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
    assert "MISSING weights 'someone/clip': changed since they were fetched, though the file is whole" in out
    file.write_bytes(file.read_bytes()[:-8])
    status, out, _ = grid("doctor", str(spec))
    assert status == 1
    assert "MISSING weights 'someone/clip': corrupted" in out


def own(folder: Path) -> dict[str, Path]:
    """Whole files of weights, by the form in which they are kept."""
    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.arange(6000.0), "b": torch.ones(3)}
    save_file(tensors, folder / "own.safetensors")
    torch.save(tensors, folder / "own.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "training.bin")
    (folder / "config.json").write_text('{"a": 1}')
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["own.safetensors", "own.pth", "old.pth", "training.bin", "config.json"])
def test_weights_of_ones_own_under_a_published_name_are_no_damaged_ones(
    grid: Callable[..., tuple[int, str, str]],
    entries: Callable[..., None],
    folder: Path,
    name: str,
) -> None:
    """What was said of both is: corrupted, fetch again; which replaces somebody's own file."""
    folder.mkdir()
    path = own(folder)[name]
    source = {"kind": "url", "address": "http://127.0.0.1:1/x"}
    entries(**{name: {"source": source, "sha256": "0" * 64}})
    status, out, _ = grid("weights", "check", name)
    assert status == 1
    assert (
        f"WRONG   weights '{name}': not the published ones, though the file is whole: sha256 of {path}" in out
    )
    assert "move them to a name of their own and give that as `checkpoint:`" in out
    assert f"if not: python -m grid weights fetch {name} --again" in out
    path.rename(folder / f"mine-{name}")
    assert weights.here(f"mine-{name}")
    assert weights.check(f"mine-{name}") == ""

    content = (folder / f"mine-{name}").read_bytes()
    for damaged in (content[: len(content) // 2], content[:-1], b"", b"<html>404</html>"):
        path.write_bytes(damaged)
        line = weights.check(name)
        assert line.startswith(f"weights '{name}': corrupted ("), (damaged[-9:], line)
        assert line.endswith(f"; python -m grid weights fetch {name} --again")
        assert "\n" not in line


def test_an_archive_with_a_flipped_byte_is_a_damaged_one(entries: Callable[..., None], folder: Path) -> None:
    folder.mkdir()
    path = own(folder)["own.pth"]
    entries(**{"own.pth": {"source": {"kind": "url", "address": "http://127.0.0.1:1/x"}, "sha256": "0" * 64}})
    flip_a_byte(path)
    assert "corrupted (" in weights.check("own.pth")
    assert "wrong checksum" in weights.check("own.pth")
