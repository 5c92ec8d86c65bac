"""A stage in a worker process: decoding, the model in its actor, and the writing of parts.

Rows travel as Arrow tables. An image that fails keeps its row, with the reason in `error`.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.columns import ERROR, IMAGE_ID, Column
from components.data.images import decode
from components.data.mask_files import Meaning
from components.models.weights.device_memory import free_memory, out_of_memory
from components.stage import Batch, BatchMap, ColumnStage, ImageRecord, Rows, Size
from grid.stores.artifacts import ArtifactStore

PIXELS, HEIGHT, WIDTH = "pixels", "height", "width"  # as prepared
IMAGE_HEIGHT, IMAGE_WIDTH = "image_height", "image_width"  # as decoded
PATH, MASK, PART_MASK = "path", "mask", "part_mask"
PART = "part"  # `part.<input>`: the file that holds the image's row of that input
MODEL_INPUTS, SECONDS, DEVICE_BATCH = "model_inputs", "seconds", "device_batch"
BLOCK_BYTES = 64 * 2**20  # of prepared pixels, after which a table travels on
UNLIMITED = sys.maxsize


@dataclass(frozen=True)
class StageTask:
    """What a worker is told: the stage, its key, its inputs' keys by field name (columns and tensors
    apart), the store, and what the card says of the masks' values."""

    stage: ColumnStage
    key: str
    columns: Mapping[str, str]
    tensors: Mapping[str, str]
    store: ArtifactStore
    mask_values: Meaning = None


def placed(table: pa.Table, task: StageTask) -> pa.Table:
    """Says for each image which part of each input holds its row (`part.<input>`), or why there is none.

    In the driver, once for all blocks: so that a block opens only the parts that it needs.
    """
    ids = table[IMAGE_ID].to_numpy()
    errors: list[str | None] = [None] * len(ids)
    for name, key in task.columns.items():
        task.store.column(key)  # a row that was lost is no failure of its image: BrokenArtifact
        places, failures = task.store.places(key), task.store.failures(key)
        for row in range(len(ids)):
            image_id = int(ids[row])
            if errors[row] is None and image_id not in places:
                errors[row] = f"{name}: {failures.get(image_id, 'no row')}"
        parts = pa.array([places.get(int(image_id)) for image_id in ids], pa.string())
        table = table.append_column(f"{PART}.{name}", parts)
    return table.append_column(ERROR, pa.array(errors, pa.string()))


def read_images(table: pa.Table, task: StageTask) -> Iterator[pa.Table]:
    """Decodes and prepares the images of a placed block and puts the rows of the stage's inputs beside them.

    Large photographs leave in several tables, so that a block of them never lies in memory as a whole.
    """
    errors: list[str | None] = table[ERROR].to_pylist()
    images: list[_Decoded] = []
    start, held = 0, 0
    read = _reader(task.stage)
    for row, path in enumerate(table[PATH].to_pylist()):
        image, errors[row] = (None, errors[row]) if errors[row] else read(path)
        images.append(image or _Decoded(b"", (0, 0), (0, 0)))
        held += len(images[-1].pixels)
        if held > BLOCK_BYTES or row == len(table) - 1:
            count = row + 1 - start
            yield _with_inputs(_with_images(table.slice(start, count), images, errors[start:][:count]), task)
            images, start, held = [], row + 1, 0


@dataclass(frozen=True)
class _Decoded:
    """An image as it travels: its prepared pixels, their height and width, and those of the image itself."""

    pixels: bytes
    shape: Size
    size: Size


def _reader(stage: ColumnStage) -> Callable[[str], tuple[_Decoded | None, str | None]]:
    """The function that reads one path: the image, or why there is none."""
    prepare = stage.preparation() if stage.DECODES else None

    def read(path: str) -> tuple[_Decoded | None, str | None]:
        if not stage.DECODES:
            return None, None
        try:
            image = decode(Path(path))
            prepared = image if prepare is None else prepare(image)
        except Exception as error:  # a strange file or shape may raise anything: it is the image's reason
            return None, _reason(error)
        return _Decoded(prepared.tobytes(), prepared.shape[:2], image.shape[:2]), None

    return read


def _with_images(table: pa.Table, images: list[_Decoded], errors: list[str | None]) -> pa.Table:
    columns = {
        ERROR: pa.array(errors, pa.string()),
        PIXELS: pa.array([image.pixels for image in images], pa.large_binary()),
        HEIGHT: pa.array([image.shape[0] for image in images], pa.int32()),
        WIDTH: pa.array([image.shape[1] for image in images], pa.int32()),
        IMAGE_HEIGHT: pa.array([image.size[0] for image in images], pa.int32()),
        IMAGE_WIDTH: pa.array([image.size[1] for image in images], pa.int32()),
    }
    table = table.drop_columns([ERROR])
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _with_inputs(table: pa.Table, task: StageTask) -> pa.Table:
    """Appends `<input>.<field>` for every field of every input, null where the image failed."""
    good = table[ERROR].is_null().to_numpy()
    if not good.any():
        return table
    ids = table[IMAGE_ID].to_numpy()[good]
    rows = pa.array(np.where(good, np.cumsum(good) - 1, 0), mask=~good)
    for name in task.columns:
        parts = table[f"{PART}.{name}"].filter(pa.array(good)).unique().to_pylist()
        column = Column(parts, [], task.store.storage.filesystem)
        stored = column.read(ids, column.fields)
        for field in column.fields:
            table = table.append_column(f"{name}.{field}", stored[field].take(rows))
    return table


class ModelNotLoaded(RuntimeError):  # noqa: N818  the outcome has this name in every message
    """A replica could not load its model; the message is why."""


class StageActor:
    """One replica of a stage's model. Where its device ran out of memory, it goes on with the batch that
    did fit."""

    def __init__(self, task: StageTask, device: str, batch_size: int) -> None:
        self._inputs = list(task.columns)
        self._mask_values = task.mask_values
        self._limit = batch_size
        try:
            tensors = {name: task.store.tensors(key) for name, key in task.tensors.items()}
            self._map: BatchMap = task.stage.load(tensors, device)
        except Exception as error:  # raised here, Ray would try the actor again and print its stack
            self._broken: str | None = _reason(error)
        else:
            self._broken = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """The stage's columns for a batch; failures keep their reason. ModelNotLoaded where there is none."""
        if self._broken:
            raise ModelNotLoaded(self._broken)
        start = time.perf_counter()
        good = np.flatnonzero(table[ERROR].is_null().to_numpy())
        outcome = self._run(self._batch(table.take(good))) if len(good) else None
        return _joined(table, good, outcome, time.perf_counter() - start, self._limit)

    def _run(self, batch: Batch) -> "Outcome":
        parts = []
        rows = 0
        while rows < len(batch):
            part = batch.part(slice(rows, min(rows + self._limit, len(batch))))
            parts.append(run_rows(self._map, part))
            self._limit = min(self._limit, parts[-1].fits)
            rows += len(part)
        return _merged(parts)

    def _batch(self, table: pa.Table) -> Batch:
        records = [
            ImageRecord(
                row[IMAGE_ID],
                Path(row[PATH]),
                _path(row[MASK]),
                _path(row[PART_MASK]),
                self._mask_values,
            )
            for row in table.select([IMAGE_ID, PATH, MASK, PART_MASK]).to_pylist()
        ]
        buffers = (cell.as_buffer() for cell in table[PIXELS])
        images = [
            np.frombuffer(buffer, np.uint8).reshape(*shape, 3)
            for buffer, shape in zip(buffers, _sizes(table, HEIGHT, WIDTH), strict=True)
        ]
        inputs = {name: _input(table, name) for name in self._inputs}
        return Batch(records, images, inputs, _sizes(table, IMAGE_HEIGHT, IMAGE_WIDTH))


def _sizes(table: pa.Table, height: str, width: str) -> list[Size]:
    return list(zip(table[height].to_pylist(), table[width].to_pylist(), strict=True))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _input(table: pa.Table, name: str) -> pa.Table:
    prefix = f"{name}."
    fields = [field for field in table.column_names if field.startswith(prefix)]
    return table.select(fields).rename_columns([f.removeprefix(prefix) for f in fields])


@dataclass(frozen=True)
class Outcome:
    """columns: for the good rows only; errors: reason or None for each row of the batch; model_inputs:
    what the model saw; fits: rows that fit into the device's memory at once, UNLIMITED if all did."""

    columns: dict[str, pa.ChunkedArray]
    errors: list[str | None]
    model_inputs: int
    fits: int = UNLIMITED


def run_rows(stage_map: BatchMap, batch: Batch) -> Outcome:
    """The map over a batch. Out of accelerator memory, the batch is halved, down to one row; on any other
    error it is cut until the rows that cause it stand alone, and only those fail."""
    try:
        return _success(stage_map(batch), len(batch))
    except Exception as error:  # a model may raise anything: it is kept as the row's reason
        if len(batch) == 1:
            return Outcome({}, [_reason(error)], 0)
        full = out_of_memory(error)
    if full:
        free_memory()
    middle = len(batch) // 2
    halves = [run_rows(stage_map, batch.part(rows)) for rows in (slice(0, middle), slice(middle, len(batch)))]
    return _merged(halves, fits=len(batch) - middle if full else UNLIMITED)


def _success(rows: Rows, count: int) -> Outcome:
    columns = {name: pa.chunked_array([values]) for name, values in rows.columns.items()}
    return Outcome(columns, [None] * count, rows.model_inputs)


def _merged(parts: list[Outcome], fits: int = UNLIMITED) -> Outcome:
    filled = [part.columns for part in parts if part.columns]
    names = filled[0] if filled else {}
    chunks = {n: [c for columns in filled for c in columns[n].chunks] for n in names}
    return Outcome(
        {name: pa.chunked_array(chunks[name]) for name in names},
        [error for part in parts for error in part.errors],
        sum(part.model_inputs for part in parts),
        min([fits, *(part.fits for part in parts)]),
    )


def _joined(
    table: pa.Table, good: np.ndarray[Any, Any], outcome: Outcome | None, seconds: float, device_batch: int
) -> pa.Table:
    """image_id, error, the stage's columns (null where failed), and what the batch cost, per row."""
    count = len(table)
    errors = table[ERROR].to_pylist()
    for row, error in zip(good, outcome.errors if outcome else [], strict=False):
        errors[row] = error
    succeeded = np.array([error is None for error in errors])
    columns = {IMAGE_ID: table[IMAGE_ID], ERROR: pa.array(errors, pa.string())}
    rows = pa.array(np.where(succeeded, np.cumsum(succeeded) - 1, 0), mask=~succeeded)
    for name, values in (outcome.columns if outcome else {}).items():
        columns[name] = values.take(rows)
    first = np.arange(count) == (np.argmax(succeeded) if count else 0)  # a row that is stored
    columns[MODEL_INPUTS] = pa.array(np.where(first, outcome.model_inputs if outcome else 0, 0))
    columns[SECONDS] = pa.array(np.where(first, seconds, 0.0))
    columns[DEVICE_BATCH] = pa.array([device_batch] * count, pa.int64())
    return pa.table(columns)


def write_part(table: pa.Table, task: StageTask) -> pa.Table:
    """Stores a block as one part; returns how many rows it had and how many of them failed."""
    if len(table) == 0:
        return pa.table({"rows": pa.array([], pa.int64()), "failed": pa.array([], pa.int64())})
    task.store.write_part(task.key, table)
    failed = len(table) - table[ERROR].null_count
    return pa.table({"rows": [len(table)], "failed": [failed]})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
