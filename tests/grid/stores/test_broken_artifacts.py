"""An artifact that lost something stops its readers with its name, and can be computed again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.columns import ERROR, IMAGE_ID
from grid.commands.artifact_care import held, removable
from grid.stores.artifacts import ArtifactStore, BrokenArtifact

KEY = "a" * 12


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A column of two parts with a failed image, and a tensor stage."""
    store = ArtifactStore(str(tmp_path))
    for ids in ([1, 2, 3], [4, 5]):
        errors = pa.array(["broken" if i == 5 else None for i in ids], pa.string())
        store.write_part(KEY, pa.table({IMAGE_ID: ids, ERROR: errors, "x": [float(i) for i in ids]}))
    facts = {"kind": "clip_images", "dataset": "toybirds", "identity": {"inputs": {}}}
    store.publish(KEY, {**facts, "sort": "column", "images": 5, "failed": 1})
    store.write_tensors("t", {"w": np.arange(6.0)})
    store.publish("t", {**facts, "sort": "tensors", "images": 0, "failed": 0})
    return store


def files(store: ArtifactStore, key: str, pattern: str) -> list[Path]:
    return sorted(
        Path(store.storage.path(f"stages/{key}")).glob(pattern), key=lambda path: path.stat().st_size
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def copy(path: Path) -> None:
    path.with_name(f"part-copy-{path.name}").write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("pattern", "damage", "said", "kept"),
    [
        ("part-*", Path.unlink, "rows, the manifest says 5", {2, 4}),
        ("failed-*", Path.unlink, "4 rows, the manifest says 5", {4}),
        ("part-*", cut, "Parquet", {2, 4}),
        ("part-*", lambda path: path.write_bytes(b""), "Parquet", {2, 4}),
        ("part-*", copy, "rows, the manifest says 5", {0}),
        (
            "manifest.json",
            cut,
            "manifest.json: Expecting property name enclosed in double quotes: line 8",
            {0},
        ),
        ("manifest.json", lambda path: path.write_bytes(b""), "manifest.json: Expecting value: line 1", {0}),
        ("manifest.json", lambda path: path.write_bytes(b"\x00\xff{"), "manifest.json: ", {0}),
    ],
)
def test_a_column_that_lost_something_is_named_and_never_read(
    store: ArtifactStore, pattern: str, damage: Callable[[Path], object], said: str, kept: set[int]
) -> None:
    damage(files(store, KEY, pattern)[0])
    with pytest.raises(BrokenArtifact, match=f"artifact {KEY}.*--recompute") as stop:
        store.column(KEY)
    assert said in str(stop.value)
    assert list(store.problems(KEY)) == [str(stop.value)]
    assert [artifact.key for artifact in held(store, set())] == [KEY, "t"]
    store.withdraw(KEY)
    assert not store.has(KEY)
    assert len(store.stored_ids(KEY)) in kept


@pytest.mark.parametrize("damage", [Path.unlink, cut, lambda path: path.write_bytes(b"")])
def test_tensors_that_lost_something_are_named_and_never_read(
    store: ArtifactStore, damage: Callable[[Path], object]
) -> None:
    assert list(store.problems("t")) == []
    damage(files(store, "t", "*.safetensors")[0])
    with pytest.raises(BrokenArtifact, match=r"artifact t \(clip_images of toybirds\): .*--recompute"):
        store.tensors("t")
    (problem,) = store.problems("t")
    assert problem.startswith("artifact t (clip_images of toybirds): ")
    store.withdraw("t")
    assert store.artifact_keys() == [KEY]


@pytest.mark.parametrize("content", [b"{}", b'{"sort": "column"}', b'{"images": 5}'])
def test_a_manifest_that_lost_a_fact_is_broken(store: ArtifactStore, content: bytes) -> None:
    store.storage.write(store.name(KEY, "manifest.json"), content)
    (problem,) = store.problems(KEY)
    assert "manifest.json has no" in problem
    assert "--recompute" in problem


def test_a_part_of_an_unfinished_artifact_that_was_cut_short_is_named_and_can_be_dropped(
    store: ArtifactStore,
) -> None:
    store.storage.delete_file(store.name(KEY, "manifest.json"))
    assert list(store.problems(KEY)) == []
    cut(files(store, KEY, "part-*")[-1])
    (problem,) = store.problems(KEY)
    assert f"artifact {KEY}" in problem
    assert "--recompute" in problem
    store.withdraw(KEY)
    assert list(store.problems(KEY)) == []
    assert 0 < len(store.stored_ids(KEY)) < 5
    assert list(store.problems("not there")) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_progress_that_cannot_be_read_is_no_progress(store: ArtifactStore, content: bytes) -> None:
    store.storage.write(store.name("t", "progress.json"), content)
    assert store.progress("t") is None


@pytest.mark.parametrize("content", [b"", b"yesterday", b"\xff"])
def test_a_time_of_use_that_cannot_be_read_is_that_of_its_file(
    store: ArtifactStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.storage.write(store.name(KEY, "used"), content)
    used = store.last_used(KEY)
    assert used is not None
    assert datetime.now(UTC) - used < timedelta(minutes=1)
    (line,) = caplog.messages
    assert f"artifact {KEY}: used cannot be read" in line
    assert [one.key for one in removable(held(store, set()), 1.0)] == ["t"]
