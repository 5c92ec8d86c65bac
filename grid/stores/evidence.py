"""What a trial leaves in its folder beside its numbers: written with the sha256 of each file, which the
manifest keeps, and read as it was written or not at all.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from grid.stores.storage import Storage, as_parquet

MANIFEST = "manifest.json"  # the trial's report, written last
FITTED = "fitted.safetensors"
FACTS = "facts.json"
PICTURES = "pictures.json"
PREDICTIONS = "predictions.parquet"
SUMS = "sha256"  # in the manifest; trials of earlier versions of the code have none: their files are taken
PREDICTED = pa.schema(  # an image of the test split; evidence: what decided, the strongest first
    {
        "image_id": pa.int64(),
        "path": pa.string(),  # below the data set's root
        "label": pa.int64(),
        "label_name": pa.string(),
        "group": pa.int64(),
        "group_name": pa.string(),
        "predicted": pa.int64(),  # -1, and no name, where a stage could not process the image
        "predicted_name": pa.string(),
        "evidence": pa.list_(pa.struct({"what": pa.string(), "contribution": pa.float32()})),
    }
)
SINCE = {  # columns that trials of earlier versions of the code have not, and what stands for them
    "path": None,
    "label_name": "label",
    "group_name": "group",
    "predicted_name": "predicted",
    "evidence": None,
}
REPORT = ("trial", "attempt", "metrics", "n_failed", "on_failed", "seconds", "provenance")


class BrokenEvidence(LookupError):  # noqa: N818  reads as the message does
    """A file that a trial left is not as it was written; the message is one line that names it, says what is
    wrong and what mends it."""

    def __init__(self, trial: str, file: str, wrong: str) -> None:
        self.wrong = f"trial {trial}: {file} {' '.join(wrong.split())}"
        super().__init__(f"{self.wrong}; `python -m grid rerun {trial}` and a run of its spec make it anew")


class Evidence:
    """A trial's folder, being written. sums: sha256 by file."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder
        self.sums: dict[str, str] = {}

    def write(self, file: str, content: bytes | memoryview) -> None:
        """A file, by its name in the folder."""
        self._storage.write(f"{self._folder}/{file}", content)
        self.sums[file] = hashlib.sha256(content).hexdigest()

    def write_json(self, file: str, value: Any) -> None:
        """A value as JSON; NaN is refused."""
        self.write(file, json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode())

    def write_table(self, file: str, table: pa.Table) -> None:
        """A Parquet file."""
        self.write(file, as_parquet(table))


class LeftEvidence:
    """The folder of a trial that has ended, at the URI that its row in SQL names; None: it left nothing.
    Everything raises BrokenEvidence where a file is not what was written."""

    def __init__(self, trial: str, uri: str | None) -> None:
        self._trial, self._storage = trial, None if uri is None else Storage(uri)
        self._sums: dict[str, str] | None = None

    def content(self, file: str) -> bytes | None:
        """The bytes of a file; None if the trial left none of this name."""
        if self._sums is None:
            self._sums = self._read_sums()
        content = self._bytes(file)
        if file not in self._sums:
            return content
        if content is None:
            raise BrokenEvidence(self._trial, file, "is gone")
        if hashlib.sha256(content).hexdigest() != self._sums[file]:
            raise BrokenEvidence(
                self._trial, file, "is not what the trial wrote: cut short, or changed since"
            )
        return content

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What fitting gave; empty where the method keeps none."""
        content = self.content(FITTED)
        try:
            return {} if content is None else dict(safetensors.numpy.load(content))
        except safetensors.SafetensorError as error:
            raise BrokenEvidence(self._trial, FITTED, f"cannot be read: {error}") from error

    def facts(self) -> dict[str, Any]:
        """What fitting told beside tensors."""
        found = self._json(FACTS, self.content(FACTS))
        if found is None:
            raise BrokenEvidence(self._trial, FACTS, "is gone")
        return found

    def predictions(self) -> pa.Table | None:
        """Rows of PREDICTED, by image; None if the trial left none. Trials of earlier versions of the code
        have numbers for names, and neither path nor evidence."""
        content = self.content(PREDICTIONS)
        try:
            return None if content is None else _in_full(pq.read_table(pa.BufferReader(content)))
        except (pa.ArrowException, KeyError, OSError) as error:
            raise BrokenEvidence(self._trial, PREDICTIONS, f"cannot be read: {error}") from error

    def pictures(self) -> list[dict[str, Any]]:
        """`file`, `caption` and `wide` of each picture; none if the trial drew none."""
        content = self.content(PICTURES)
        listed = [] if content is None else self._value(PICTURES, content)
        if not isinstance(listed, list) or not all(_is_picture(one) for one in listed):
            raise BrokenEvidence(self._trial, PICTURES, "is no list of pictures")
        return listed

    def report(self) -> dict[str, Any] | None:
        """What `run_trial` returned; None if the trial did not get to its end."""
        found = self._json(MANIFEST, self._bytes(MANIFEST))
        if found is not None and (lost := [name for name in REPORT if name not in found]):
            raise BrokenEvidence(self._trial, MANIFEST, f"has no {', '.join(lost)}")
        return found

    def _read_sums(self) -> dict[str, str]:
        manifest = self._json(MANIFEST, self._bytes(MANIFEST)) or {}
        sums = manifest.get(SUMS, {})
        if not isinstance(sums, dict):
            raise BrokenEvidence(self._trial, MANIFEST, f"has no mapping under {SUMS}")
        return sums

    def _bytes(self, file: str) -> bytes | None:
        try:
            return None if self._storage is None else self._storage.read(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenEvidence(self._trial, file, f"cannot be read: {error}") from error

    def _value(self, file: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:  # of JSON or of UTF-8
            raise BrokenEvidence(self._trial, file, f"cannot be read: {error}") from error

    def _json(self, file: str, content: bytes | None) -> dict[str, Any] | None:
        value = None if content is None else self._value(file, content)
        if value is not None and not isinstance(value, dict):
            raise BrokenEvidence(self._trial, file, "is no mapping")
        return value


def _is_picture(told: Any) -> bool:
    return isinstance(told, dict) and all(isinstance(told.get(name), str) for name in ("file", "caption"))


def _in_full(table: pa.Table) -> pa.Table:
    """Rows of PREDICTED; KeyError if it is not of any version."""
    for name, number in SINCE.items():
        if name not in table.column_names:
            field = PREDICTED.field(name)
            stands = pa.nulls(len(table), field.type) if number is None else table[number].cast(field.type)
            table = table.append_column(field, stands)
    return table.select(PREDICTED.names).cast(PREDICTED)


def as_safetensors(tensors: dict[str, NDArray[Any]]) -> bytes:
    """Tensors as the bytes of a file."""
    content: bytes = safetensors.numpy.save({n: np.ascontiguousarray(value) for n, value in tensors.items()})
    return content
