"""The artifact store: whole files, manifests written last, verification and collection."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.columns import ERROR, IMAGE_ID
from grid.commands.artifact_care import held, removable
from grid.stores.artifacts import ArtifactStore
from grid.stores.storage import Storage, StorageError


@pytest.fixture(params=["file", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """On a local folder, and on a file system that only fsspec knows."""
    return ArtifactStore(str(tmp_path / "store") if request.param == "file" else f"memory://{tmp_path}")


def column(store: ArtifactStore, key: str, ids: list[int], failed: tuple[int, ...] = ()) -> None:
    errors = pa.array(["broken" if i in failed else None for i in ids], pa.string())
    store.write_part(key, pa.table({IMAGE_ID: ids, ERROR: errors, "x": [float(i) for i in ids]}))


def manifest(images: int, **facts: object) -> dict[str, object]:
    return {"kind": "k", "sort": "column", "images": images, "failed": 0, **facts}


def test_an_artifact_is_there_when_its_manifest_is(store: ArtifactStore) -> None:
    column(store, "a", [3, 1, 2], failed=(2,))
    assert not store.has("a")
    store.publish("a", manifest(3))
    assert store.has("a")
    assert store.manifest("a")["images"] == 3
    assert store.artifact_keys() == ["a"]
    np.testing.assert_array_equal(store.column("a").ids, [1, 3])
    assert store.column("a").failures == {2: "broken"}
    assert list(store.problems("a")) == []


def test_tensors_come_back_bit_by_bit(store: ArtifactStore) -> None:
    tensors = {"w": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), "n": np.arange(3)}
    store.write_tensors("t", tensors)
    found = store.tensors("t")
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_verify_sees_lost_rows_and_broken_files(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    column(store, "lost", [1, 2])
    store.publish("lost", manifest(3))
    assert "2 rows, the manifest says 3" in next(store.problems("lost"))
    column(store, "broken", [1])
    store.publish("broken", manifest(1))
    (part,) = (tmp_path / "stages" / "broken").glob("part-*")
    part.write_bytes(part.read_bytes()[:50])
    assert "broken" in next(store.problems("broken"))


def test_gc_spares_what_a_trial_needs_and_what_that_reads(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    for key, inputs in (("base", {}), ("derived", {"segments": "base"}), ("alone", {})):
        column(store, key, [1])
        store.publish(key, manifest(1, identity={"inputs": inputs}))
    column(store, "unfinished", [1])
    store.mark_used("alone")
    names = lambda days: {a.key for a in removable(held(store, {"derived"}), days)}  # noqa: E731
    assert names(0.0) == {"alone", "unfinished"}
    assert names(1.0) == {"unfinished"}
    used = store.last_used("alone")
    assert used is not None
    assert datetime.now(UTC) - used < timedelta(minutes=1)
    store.delete("alone")
    assert store.artifact_keys() == ["base", "derived", "unfinished"]


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path / "s"))
    storage.write("a/b.json", b"old")

    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    class FullDisk:
        def __getattr__(self, name: str) -> Callable[..., object]:
            return (lambda path: Full()) if name == "open_output_stream" else getattr(real, name)

    real = storage.filesystem
    monkeypatch.setattr(Storage, "filesystem", property(lambda self: FullDisk()))
    with pytest.raises(StorageError, match=r"cannot write .*b\.json.*No space left"):
        storage.write("a/b.json", b"new")
    monkeypatch.undo()
    assert storage.read("a/b.json") == b"old"
    assert [info.base_name for info in storage.files("a")] == ["b.json"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        Storage(str(tmp_path / "file" / "below")).write("x", b"")
    assert os.listdir(tmp_path) == ["file"]
