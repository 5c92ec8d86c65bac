"""What a trial reads: labels, groups, and the columns that stages have written, in id order."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from numpy.typing import NDArray

from components.data.card import Card
from components.data.images import ImageIndex, decode
from components.data.mask_files import fit, read_mask, read_parts

Ids = NDArray[np.int64]
ERROR = "error"  # why an image failed
IMAGE_ID = "image_id"
BOOK_KEEPING = (
    "model_inputs",
    "seconds",
    "device_batch",
)  # what a batch cost, kept beside the rows


@dataclass(frozen=True)
class Split:
    """Ids, labels and groups of a split's images, failing ones included: int64 (n,) each, by id."""

    name: str
    ids: Ids
    labels: Ids
    groups: Ids


class Column:
    """The rows that one column stage wrote, in Parquet parts with `image_id` and the stage's fields, and the
    images that it could not process, in parts with `image_id` and `error`."""

    def __init__(self, parts: Sequence[str], failed: Sequence[str], filesystem: Any) -> None:
        self._dataset = pads.dataset(list(parts), filesystem=filesystem, format="parquet")
        names = self._dataset.schema.names
        self.fields = [name for name in names if name not in {IMAGE_ID, *BOOK_KEEPING}]
        stored = self._dataset.to_table(columns=[IMAGE_ID])[IMAGE_ID] if parts else pa.array([], pa.int64())
        self.ids: Ids = np.sort(stored.to_numpy()).astype(np.int64)
        self.failures: dict[int, str] = {}
        for path in failed:
            table = pads.dataset([path], filesystem=filesystem).to_table()
            pairs = zip(table[IMAGE_ID].to_pylist(), table[ERROR].to_pylist(), strict=True)
            self.failures.update(pairs)

    def read(self, ids: Ids, fields: Sequence[str]) -> pa.Table:
        """The named fields of these images, a row per id in the order given; KeyError if one is not here."""
        unknown = np.setdiff1d(ids, self.ids)
        if len(unknown):
            raise KeyError(f"image {unknown[0]} is not in this column")
        wanted = None
        if 0 < len(ids) <= len(self.ids) // 2:
            key = pads.field(IMAGE_ID)  # the bounds are what Parquet's statistics can rule parts out by
            wanted = (key >= int(ids.min())) & (key <= int(ids.max())) & key.isin(ids)
        table = self._dataset.to_table(columns=[IMAGE_ID, *fields], filter=wanted)
        stored = table[IMAGE_ID].to_numpy()
        order = np.argsort(stored)
        rows = order[np.searchsorted(stored, ids, sorter=order)]
        return table.take(rows).combine_chunks().select(list(fields))

    def cost(self) -> dict[str, float]:
        """`model_inputs` and `seconds` of all its images together; empty where that was not kept."""
        names = [name for name in ("model_inputs", "seconds") if name in self._dataset.schema.names]
        table = self._dataset.to_table(columns=names)
        return {name: float(table[name].to_numpy().sum()) for name in names}

    def array(self, field: str, ids: Ids) -> NDArray[Any]:
        """A field of fixed-size lists as (n, D)."""
        return matrix(self.read(ids, [field])[field])

    def blocks(self, ids: Ids, fields: Sequence[str], size: int) -> Iterator[tuple[Ids, pa.Table]]:
        """`read`, in blocks of `size` ids, for columns that do not fit in memory."""
        for start in range(0, len(ids), size):
            block = ids[start : start + size]
            yield block, self.read(block, fields)


class Data:
    """One data set as a trial sees it. `data["clip"]` is the column that the method calls so.

    masks_left_out: of the masks that were asked for, those that are missing or cannot be used: the row in the
    index and why, by the file's path relative to the root.
    """

    def __init__(
        self,
        card: Card,
        index: ImageIndex,
        columns: Mapping[str, Column] | None = None,
        tensors: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        on_failed: Literal["wrong", "drop"] = "wrong",
        training_columns: Container[str] = (),
    ) -> None:
        self.card = card
        self.index = index
        self._columns = dict(columns or {})
        self._tensors = dict(tensors or {})
        self._on_failed = on_failed
        self.masks_left_out: dict[str, tuple[int, str]] = {}
        self._needed = [column for name, column in self._columns.items() if name not in training_columns]

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def tensors(self, name: str) -> Mapping[str, NDArray[Any]]:
        """What the tensor stage of this name wrote."""
        return self._tensors[name]

    def split(self, name: str) -> Split:
        """The split's images: those that failed in a stage too, unless `on_failed` is "drop"."""
        rows = self.index.rows(self.index.splits == name)
        if self._on_failed == "drop":
            rows = rows.rows(self.usable(rows.image_ids))
        return Split(name, rows.image_ids, rows.labels, rows.groups)

    def usable_split(self, name: str) -> Split:
        """The split's images that every column has."""
        part = self.split(name)
        kept = self.usable(part.ids)
        return Split(name, part.ids[kept], part.labels[kept], part.groups[kept])

    def usable(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the ids every column has, but for those that fitting alone reads: bool (n,)."""
        present = [np.isin(ids, column.ids) for column in self._needed]
        return np.logical_and.reduce(present) if present else np.ones(len(ids), dtype=bool)

    def failed(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the ids some stage could not process: bool (n,). One that a sample leaves out did not
        fail, nor is it usable."""
        failed = [np.isin(ids, list(column.failures)) for column in self._needed]
        return np.logical_or.reduce(failed) if failed else np.zeros(len(ids), dtype=bool)

    def images(self, ids: Ids) -> Iterator[NDArray[np.uint8]]:
        """The decoded images, uint8 (H, W, 3), one after the other; OSError if one cannot be read."""
        rows = self.rows(ids)
        return (decode(self.index.path(row)) for row in rows)

    def object_mask(self, row: int) -> NDArray[np.uint8] | None:
        """The mask of the object in the image of this row of the index, uint8 (H, W): 1 the object, 0 the
        rest, IGNORE what counts nowhere. None where there is none, or none that can be used."""
        values = self.index.mask_values
        return self._mask(row, self.index.masks, lambda path: read_mask(path, values))

    def part_mask(self, row: int) -> NDArray[np.uint8] | None:
        """The same of the card's parts: k the k-th part, 0 none, IGNORE what counts nowhere."""
        return self._mask(row, self.index.part_masks, read_parts)

    def _mask(
        self, row: int, pattern: str | None, read: Callable[[Path], NDArray[np.uint8]]
    ) -> NDArray[np.uint8] | None:
        path = self.index.beside(pattern, row)
        if path is None:
            return None
        try:
            mask = read(path)
            fit(mask, self.index.path(row))
        except (OSError, ValueError) as error:
            why = "missing" if isinstance(error, FileNotFoundError) else str(error)
            self.masks_left_out[path.relative_to(self.index.root).as_posix()] = (row, why)
            return None
        return mask

    def rows(self, ids: Ids) -> NDArray[np.int64]:
        """Positions of the ids in the index."""
        return np.searchsorted(self.index.image_ids, ids).astype(np.int64)


def matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of n lists of D numbers as (n, D)."""
    return _matrix(whole(column))


def ragged_vectors(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A column of n lists of vectors as (all vectors one after the other (m, D), counts (n,))."""
    array = whole(column)
    return _matrix(array.flatten()), _counts(array)


def ragged(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """A column of n lists of numbers as (all numbers one after the other (m,), counts (n,))."""
    array = whole(column)
    return array.flatten().to_numpy(zero_copy_only=False), _counts(array)


def _counts(array: pa.ListArray) -> NDArray[np.int64]:
    return np.diff(array.offsets.to_numpy()).astype(np.int64)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    array = column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _matrix(array: pa.FixedSizeListArray) -> NDArray[Any]:
    return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
