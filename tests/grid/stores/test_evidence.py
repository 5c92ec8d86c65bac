"""What a trial left is read as it was written, or named with what mends it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grid.stores.evidence import (
    FACTS,
    FITTED,
    MANIFEST,
    PICTURES,
    PREDICTED,
    PREDICTIONS,
    SUMS,
    BrokenEvidence,
    Evidence,
    LeftEvidence,
    as_safetensors,
)
from grid.stores.storage import Storage

BIRD = {
    "image_id": 7,
    "path": "1/bird.png",
    "label": 1,
    "label_name": "waterbird",
    "group": 2,
    "group_name": "waterbird on land",
    "predicted": -1,
    "predicted_name": None,
    "evidence": [{"what": "crest", "contribution": 0.5}],
}
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
    evidence.write_table(PREDICTIONS, pa.Table.from_pylist([BIRD], PREDICTED))
    storage.write_json(f"t/{MANIFEST}", {SUMS: evidence.sums})
    return tmp_path / "t"


def everything(folder: Path) -> None:
    left = LeftEvidence("abc", folder.as_uri())
    np.testing.assert_array_equal(left.tensors()["w"], np.arange(6.0))
    assert left.facts() == {"concepts": ["crest"]}
    assert left.pictures() == LISTED
    assert left.content("pictures/7.png") == b"png"
    predictions = left.predictions()
    assert predictions is not None
    assert predictions.to_pylist() == [BIRD]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rename_keys(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"file", b"path"))


def turn_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_was_written_is_read(folder: Path) -> None:
    everything(folder)


@pytest.mark.parametrize("file", [FITTED, FACTS, PICTURES, "pictures/7.png", PREDICTIONS])
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
        (PREDICTIONS, cut),
        (PREDICTIONS, lambda path: pq.write_table(pa.table({"image_id": [7]}), path)),
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


def test_predictions_of_an_earlier_version_have_numbers_for_names(folder: Path) -> None:
    numbers = {"image_id": [7, 8], "label": [1, 0], "group": [2, 0], "predicted": [0, -1]}
    (folder / MANIFEST).write_text("{}")
    pq.write_table(pa.table(numbers), folder / PREDICTIONS)
    found = LeftEvidence("abc", folder.as_uri()).predictions()
    assert found is not None
    assert found.schema == PREDICTED
    nothing = [None, None]
    names = {"label_name": ["1", "0"], "group_name": ["2", "0"], "predicted_name": ["0", "-1"]}
    assert found.to_pydict() == {**numbers, **names, "path": nothing, "evidence": nothing}
    (folder / PREDICTIONS).unlink()
    assert LeftEvidence("abc", folder.as_uri()).predictions() is None
