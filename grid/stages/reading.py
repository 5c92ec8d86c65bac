"""Blocks of images on their way to a stage's model: paths, decoded pixels, the rows of the stage's inputs.

Blocks travel as Arrow tables; all rows of one are for one stage. An image that fails keeps its row, with the
reason in `error`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.data.columns import ERROR, IMAGE_ID, Column
from components.data.images import decode
from components.data.mask_files import Meaning
from components.stage import ColumnStage, Size
from grid.stores.artifacts import ArtifactStore

STAGE = "stage"  # the key of the stage that the rows are for
PIXELS, HEIGHT, WIDTH = "pixels", "height", "width"  # as prepared
IMAGE_HEIGHT, IMAGE_WIDTH = "image_height", "image_width"  # as decoded
PATH, MASK, PART_MASK = "path", "mask", "part_mask"
PART = "part"  # `part.<input>`: the file that holds the image's row of that input
BLOCK_BYTES = 64 * 2**20  # of prepared pixels, after which a table travels on


@dataclass(frozen=True)
class StageTask:
    """What a worker is told: the stage, its key, its inputs' keys by field name (columns and tensors
    apart), the store, the images of one batch, and what the card says of the masks' values."""

    stage: ColumnStage
    key: str
    columns: Mapping[str, str]
    tensors: Mapping[str, str]
    store: ArtifactStore
    batch_size: int
    mask_values: Meaning = None


Tasks = Mapping[str, StageTask]  # of the stages of one pipeline, by key


def task_of(table: pa.Table, tasks: Tasks) -> StageTask:
    """The task that the rows of the table are for."""
    return tasks[table[STAGE][0].as_py()]


def placed(table: pa.Table, task: StageTask) -> pa.Table:
    """Says for each image for which stage it is, and which part of each input holds its row (`part.<input>`),
    or why there is none.

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
    table = table.append_column(STAGE, pa.array([task.key] * len(ids), pa.string()))
    return table.append_column(ERROR, pa.array(errors, pa.string()))


def read_images(table: pa.Table, tasks: Tasks) -> Iterator[pa.Table]:
    """Decodes and prepares the images of a placed block and puts the rows of its stage's inputs beside them.

    Large photographs leave in several tables, so that a block of them never lies in memory as a whole.
    """
    task = task_of(table, tasks)
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
            return None, reason_of(error)
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


def reason_of(error: Exception) -> str:
    """What was raised, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
