"""The artifact store: what stages wrote, each under the key of everything that can change it.

`stages/<key>/part-*.parquet` (and `failed-*.parquet`), or `tensors.safetensors`; and `manifest.json`,
written last: an artifact without it is unfinished and not readable. `used` holds the time of last use.
What is read is compared with the manifest: an artifact that lost something stops its readers.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from components.data.columns import ERROR, IMAGE_ID, Column
from components.identity import digest
from grid.stores.storage import Storage

log = logging.getLogger(__name__)

FOLDER = "stages"
PART, FAILED = "part", "failed"
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
PROGRESS = "progress.json"
USED = "used"
NEEDED = ("sort", "images")  # of every manifest

MENDS = "`python -m grid run SPEC --recompute` computes again what is missing"
UNREADABLE = OSError, pa.ArrowInvalid, safetensors.SafetensorError

Tensors = dict[str, NDArray[Any]]


class BrokenArtifact(RuntimeError):  # noqa: N818  reads as the message does
    """A finished artifact is not what was written; the message is one line that names it, says what is wrong
    and what mends it."""


class ArtifactStore:
    """Stage artifacts below `<uri>/stages`. Picklable."""

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)

    def name(self, key: str, file: str) -> str:
        """The name of an artifact's file in the storage."""
        return f"{FOLDER}/{key}/{file}"

    def uri(self, key: str) -> str:
        """The URI of an artifact's folder."""
        return self.storage.child(f"{FOLDER}/{key}")

    def has(self, key: str) -> bool:
        """Whether the artifact is finished."""
        return self.storage.exists(self.name(key, MANIFEST))

    def manifest(self, key: str) -> dict[str, Any]:
        """What was written when it was finished. BrokenArtifact if that cannot be read."""
        try:
            manifest = self.storage.read_json(self.name(key, MANIFEST))
        except ValueError as error:  # of JSON or of UTF-8
            raise BrokenArtifact(f"artifact {key}: {MANIFEST}: {error}; {MENDS}") from error
        if not isinstance(manifest, dict):
            raise BrokenArtifact(f"artifact {key}: {MANIFEST} is no mapping; {MENDS}")
        if lost := [name for name in NEEDED if name not in manifest]:
            raise BrokenArtifact(f"artifact {key}: {MANIFEST} has no {', '.join(lost)}; {MENDS}")
        return manifest

    def warnings(self, key: str) -> list[str]:
        """What a reader of a finished artifact must know of it and of those that it was made from. Nothing
        where an earlier version of the code wrote it."""
        return list(self.manifest(key).get("warnings", ())) if self.has(key) else []

    def artifact_keys(self) -> list[str]:
        """Of all artifacts, unfinished ones too."""
        return self.storage.folders(FOLDER)

    def column(self, key: str) -> Column:
        """The rows of a column stage. BrokenArtifact if some of a finished one are gone or cannot be read."""
        manifest = self.manifest(key) if self.has(key) else None
        try:
            column = Column(self._files(key, PART), self._files(key, FAILED), self.storage.filesystem)
        except UNREADABLE as error:
            raise self._broken(key, manifest, str(error)) from error
        if manifest is not None:
            found = len(column.ids) + len(column.failures)
            if found != manifest["images"]:
                raise self._broken(key, manifest, f"{found} rows, the manifest says {manifest['images']}")
        return column

    def tensors(self, key: str) -> Tensors:
        """What a tensor stage wrote. BrokenArtifact if it is gone or cannot be read."""
        try:
            return dict(safetensors.numpy.load(self.storage.read(self.name(key, TENSORS))))
        except UNREADABLE as error:
            manifest = self.manifest(key) if self.has(key) else None
            raise self._broken(key, manifest, f"{TENSORS}: {error}") from error

    def _broken(self, key: str, manifest: dict[str, Any] | None, wrong: str) -> BrokenArtifact:
        told = manifest or {}
        of = f" of {told['dataset']}" if told.get("dataset") else ""
        kind = f" ({told['kind']}{of})" if "kind" in told else ""
        return BrokenArtifact(f"artifact {key}{kind}: {' '.join(wrong.split())}; {MENDS}")

    def write_tensors(self, key: str, tensors: Tensors) -> int:
        """Stores the result of a tensor stage; its size in bytes."""
        content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
        self.storage.write(self.name(key, TENSORS), content)
        return len(content)

    def write_part(self, key: str, table: pa.Table) -> None:
        """Stores some rows; those with an `error` apart, without the stage's fields. The name is the hash of
        the ids, so that a repeated part replaces itself."""
        name = digest(table[IMAGE_ID].to_pylist())
        good = pc.is_null(table[ERROR])
        rows, failed = table.filter(good).drop_columns([ERROR]), table.filter(pc.invert(good))
        if len(failed):
            reasons = failed.select([IMAGE_ID, ERROR])
            self.storage.write_table(self.name(key, f"{FAILED}-{name}.parquet"), reasons)
        if len(rows):
            self.storage.write_table(self.name(key, f"{PART}-{name}.parquet"), rows)

    def stored_ids(self, key: str) -> NDArray[np.int64]:
        """Sorted ids of all images that are dealt with so far, failed ones too. BrokenArtifact if a part
        cannot be read."""
        ids = [self._read(key, sort, [IMAGE_ID])[IMAGE_ID].to_numpy() for sort in (PART, FAILED)]
        return np.sort(np.concatenate(ids)).astype(np.int64)

    def places(self, key: str) -> dict[int, str]:
        """The part that holds each image's row."""
        return {
            int(image_id): path
            for path in self._files(key, PART)
            for image_id in pq.read_table(path, columns=[IMAGE_ID], filesystem=self.storage.filesystem)[
                IMAGE_ID
            ].to_numpy()
        }

    def failures(self, key: str) -> dict[int, str]:
        """Reason of each failed image."""
        table = self._read(key, FAILED, [IMAGE_ID, ERROR])
        return dict(zip(table[IMAGE_ID].to_pylist(), table[ERROR].to_pylist(), strict=True))

    def total(self, key: str, field: str) -> float:
        """Sum of a numeric field over all rows."""
        return float(pc.sum(self._read(key, PART, [field])[field]).as_py() or 0)

    def least(self, key: str, field: str) -> int:
        """Least value of an integer field; 0 if there is no row."""
        return int(pc.min(self._read(key, PART, [field])[field]).as_py() or 0)

    def write_progress(self, key: str, progress: dict[str, Any]) -> None:
        """How far an unfinished tensor stage is."""
        self.storage.write_json(self.name(key, PROGRESS), progress)

    def progress(self, key: str) -> dict[str, Any] | None:
        """What was last written of it; None at the start, and where that cannot be read: it is only shown."""
        name = self.name(key, PROGRESS)
        try:
            progress = self.storage.read_json(name) if self.storage.exists(name) else None
        except (OSError, ValueError):
            return None
        return progress if isinstance(progress, dict) else None

    def forget_failures(self, key: str) -> None:
        """Forgets the failed images, so that the next run tries them again."""
        for path in self._files(key, FAILED):
            self.storage.filesystem.delete_file(path)

    def bytes(self, key: str) -> int:
        """Size of an artifact."""
        return sum(info.size for info in self.storage.files(f"{FOLDER}/{key}"))

    def publish(self, key: str, manifest: dict[str, Any]) -> None:
        """Makes the artifact readable. Nothing of it may change any more."""
        self.storage.write_json(self.name(key, MANIFEST), manifest)

    def mark_used(self, key: str) -> None:
        """Notes that the artifact was used now."""
        self.storage.write(self.name(key, USED), datetime.now(UTC).isoformat().encode())

    def last_used(self, key: str) -> datetime | None:
        """When it was last used; None if that was never noted. Where the note cannot be read it is the time
        at which it was written, and one line says so."""
        name = self.name(key, USED)
        if not self.storage.exists(name):
            return None
        try:
            return datetime.fromisoformat(self.storage.read(name).decode()).astimezone(UTC)
        except ValueError:
            log.warning("artifact %s: %s cannot be read: the time of the file is taken", key, USED)
        written: datetime = self.storage.filesystem.get_file_info(self.storage.path(name)).mtime
        return written.astimezone(UTC)

    def delete(self, key: str) -> None:
        """Removes the artifact."""
        self.storage.delete_folder(f"{FOLDER}/{key}")

    def problems(self, key: str) -> Iterator[str]:
        """What is wrong with an artifact: unreadable files; of a finished one also lost parts, and rows that
        do not add up. Of tensors the header is read, and compared with the file's size. Nothing of one that
        is not there."""
        try:
            manifest = self.manifest(key) if self.has(key) else None
            if manifest is None:
                self.stored_ids(key)
            elif manifest["sort"] != "tensors":
                self.column(key)
            elif wrong := self._cut_short(key):
                raise self._broken(key, manifest, wrong)
        except BrokenArtifact as error:
            yield str(error)

    def _cut_short(self, key: str) -> str:
        """What is wrong with the size of an artifact's tensors; empty if nothing is."""
        path = self.storage.path(self.name(key, TENSORS))
        try:
            with self.storage.filesystem.open_input_file(path) as file:
                size, length = file.size(), int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, size)))
        except (OSError, ValueError) as error:
            return f"{TENSORS}: {error}"
        ends = [told["data_offsets"][1] for name, told in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
        return "" if size == whole else f"{TENSORS} has {size} bytes, its header says {whole}"

    def withdraw(self, key: str) -> None:
        """Makes a broken artifact unfinished, so that the next run computes it again: what can be read of a
        column stays, unless there is more of it than was written."""
        finished = self.has(key)
        try:
            manifest = self.manifest(key) if finished else {}
        except BrokenArtifact:
            manifest = {"sort": None}
        for path in [*self._files(key, PART), *self._files(key, FAILED)]:
            try:
                pq.read_table(path, columns=[IMAGE_ID], filesystem=self.storage.filesystem)
            except UNREADABLE:
                self.storage.filesystem.delete_file(path)
        if not finished:
            return
        ids = self.stored_ids(key)
        if manifest["sort"] == "column" and len(np.unique(ids)) == len(ids) <= manifest["images"]:
            self.storage.delete_file(self.name(key, MANIFEST))
        else:
            self.delete(key)

    def _files(self, key: str, sort: str) -> list[str]:
        files = self.storage.files(f"{FOLDER}/{key}")
        return [info.path for info in files if info.base_name.startswith(f"{sort}-")]

    def _read(self, key: str, sort: str, fields: list[str]) -> pa.Table:
        files = self._files(key, sort)
        if not files:
            return pa.table({name: pa.array([], pa.int64()) for name in fields})
        try:
            dataset = pads.dataset(files, filesystem=self.storage.filesystem, format="parquet")
            return dataset.to_table(columns=fields)
        except UNREADABLE as error:
            raise BrokenArtifact(f"artifact {key}: {' '.join(str(error).split())}; {MENDS}") from error
