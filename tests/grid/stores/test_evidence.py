"""What a trial left is read as it was written, or named with what mends it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grid.stores.evidence import (
    FACTS,
    FITTED,
    MANIFEST,
    PICTURES,
    SUMS,
    BrokenEvidence,
    Evidence,
    LeftEvidence,
    as_safetensors,
)
from grid.stores.storage import Storage

LISTED = [{"file": "pictures/7.png", "caption": "image 7", "wide": False}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a trial, with its manifest."""
    storage = Storage(str(tmp_path))
    evidence = Evidence(storage, "t")
    evidence.write(FITTED, as_safetensors({"w": np.arange(6.0)}))
    evidence.write_json(FACTS, {"concepts": ["crest"]})
    evidence.write_json(PICTURES, LISTED)
    evidence.write("pictures/7.png", b"png")
    storage.write_json(f"t/{MANIFEST}", {SUMS: evidence.sums})
    return tmp_path / "t"


def everything(folder: Path) -> None:
    left = LeftEvidence("abc", folder.as_uri())
    np.testing.assert_array_equal(left.tensors()["w"], np.arange(6.0))
    assert left.facts() == {"concepts": ["crest"]}
    assert left.pictures() == LISTED
    assert left.content("pictures/7.png") == b"png"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rename_keys(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"file", b"path"))


def turn_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_was_written_is_read(folder: Path) -> None:
    everything(folder)


@pytest.mark.parametrize("file", [FITTED, FACTS, PICTURES, "pictures/7.png"])
@pytest.mark.parametrize("damage", [cut, turn_a_bit, Path.unlink, lambda path: path.write_bytes(b"")])
def test_what_is_not_what_was_written_is_named(
    folder: Path, file: str, damage: Callable[[Path], object]
) -> None:
    damage(folder / file)
    with pytest.raises(BrokenEvidence) as broken:
        everything(folder)
    line = str(broken.value)
    assert "\n" not in line
    assert line.startswith(f"trial abc: {file} is")
    assert "python -m grid rerun abc" in line


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sha256": []}', b"\xff"])
def test_a_manifest_that_cannot_be_read_is_named(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BrokenEvidence, match=r"^trial abc: manifest\.json .*; `python -m grid rerun abc`"):
        everything(folder)


def test_what_an_earlier_version_of_the_code_left_is_taken_as_it_is_if_it_can_be_read(folder: Path) -> None:
    (folder / MANIFEST).write_text("{}")
    everything(folder)
    for file, damage in (
        (FACTS, cut),
        (PICTURES, rename_keys),
        (FITTED, lambda path: path.write_bytes(b"1")),
    ):
        whole = (folder / file).read_bytes()
        damage(folder / file)
        with pytest.raises(BrokenEvidence, match=f"^trial abc: {file}"):
            everything(folder)
        (folder / file).write_bytes(whole)
    (folder / FITTED).unlink()
    assert LeftEvidence("abc", folder.as_uri()).tensors() == {}, "the method keeps none"
