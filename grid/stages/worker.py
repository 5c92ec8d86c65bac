"""A stage in a worker process: the model in its actor, and the writing of parts."""

import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.columns import ERROR, IMAGE_ID
from components.models.weights.device_memory import free_memory, out_of_memory
from components.stage import Batch, BatchMap, ImageRecord, Rows, Size
from grid.stages.reading import (
    HEIGHT,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    MASK,
    PART_MASK,
    PATH,
    PIXELS,
    STAGE,
    WIDTH,
    StageTask,
    Tasks,
    reason_of,
    task_of,
)

MODEL_INPUTS, SECONDS, DEVICE_BATCH = "model_inputs", "seconds", "device_batch"
ROWS, BROKEN = "rows", "broken"
WRITTEN = pa.schema({STAGE: pa.string(), ROWS: pa.int64(), BROKEN: pa.string()})
UNLIMITED = sys.maxsize


class StageActor:
    """One replica of a pool that works for the stages of a pipeline, one after the other. Of their models it
    has one in memory: that of the block that came last."""

    def __init__(self, tasks: Tasks, device: str) -> None:
        self._tasks, self._device = tasks, device
        self._model: LoadedStage | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """The stage's columns for a block, a batch at a time; failures keep their reason. Without its model,
        a table with nothing but the reason in `broken`."""
        task = task_of(table, self._tasks)
        if self._model is None or self._model.task is not task:
            if self._model is not None:
                self._model = None  # before the next one comes
                gc.collect()
                free_memory()
            self._model = LoadedStage(task, self._device)
        if self._model.broken:
            yield pa.table({STAGE: [task.key], BROKEN: [self._model.broken]})
            return
        for start in range(0, len(table), task.batch_size):
            yield self._model.run(table.slice(start, task.batch_size))


class LoadedStage:
    """A stage with its model. Where its device ran out of memory, it goes on with the batch that did fit.

    broken: why there is no model. It is not raised: Ray would try again, and print its stack.
    """

    def __init__(self, task: StageTask, device: str) -> None:
        self.task = task
        self.broken = ""
        self._limit = task.batch_size
        try:
            tensors = {name: task.store.tensors(key) for name, key in task.tensors.items()}
            self._map: BatchMap = task.stage.load(tensors, device)
        except Exception as error:  # a strange checkpoint may raise anything
            self.broken = reason_of(error)

    def run(self, table: pa.Table) -> pa.Table:
        """The stage's columns for a batch; failures keep their reason."""
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
                self.task.mask_values,
            )
            for row in table.select([IMAGE_ID, PATH, MASK, PART_MASK]).to_pylist()
        ]
        buffers = (cell.as_buffer() for cell in table[PIXELS])
        images = [
            np.frombuffer(buffer, np.uint8).reshape(*shape, 3)
            for buffer, shape in zip(buffers, _sizes(table, HEIGHT, WIDTH), strict=True)
        ]
        inputs = {name: _input(table, name) for name in self.task.columns}
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
            return Outcome({}, [reason_of(error)], 0)
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
    columns = {name: table[name] for name in (STAGE, IMAGE_ID)} | {ERROR: pa.array(errors, pa.string())}
    rows = pa.array(np.where(succeeded, np.cumsum(succeeded) - 1, 0), mask=~succeeded)
    for name, values in (outcome.columns if outcome else {}).items():
        columns[name] = values.take(rows)
    first = np.arange(count) == (np.argmax(succeeded) if count else 0)  # a row that is stored
    columns[MODEL_INPUTS] = pa.array(np.where(first, outcome.model_inputs if outcome else 0, 0))
    columns[SECONDS] = pa.array(np.where(first, seconds, 0.0))
    columns[DEVICE_BATCH] = pa.array([device_batch] * count, pa.int64())
    return pa.table(columns)


def write_part(table: pa.Table, tasks: Tasks) -> pa.Table:
    """Stores a block as one part. One row comes of it: the stage, the rows that were stored, and why its
    model is `broken`, if it is."""
    if len(table) == 0:
        return _written([], [], [])
    if BROKEN in table.column_names:
        return _written(table[STAGE].to_pylist(), [0] * len(table), table[BROKEN].to_pylist())
    task = task_of(table, tasks)
    task.store.write_part(task.key, table.drop_columns([STAGE]))
    return _written([task.key], [len(table)], [None])


def _written(keys: list[str], rows: list[int], broken: list[str | None]) -> pa.Table:
    return pa.table({STAGE: keys, ROWS: rows, BROKEN: broken}, WRITTEN)
