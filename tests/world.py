"""A small data set that tests draw, and stages run on it in a plain loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pyarrow.fs import LocalFileSystem

from components.data.card import Card
from components.data.columns import ERROR, IMAGE_ID, Column, Data
from components.data.images import ImageIndex, decode
from components.models.segmentation.segmenter import Segmenter
from components.stage import Batch, BatchMap, ColumnStage, ImageRecord, Preparation, Stage, TensorStage
from components.stages.segments import Segments

BATCH = 5
BIRDS = ((200, 40, 40), (40, 40, 200))  # colour by class
PLACES = ((60, 150, 60), (130, 160, 190))


def draw_bird(label: int, place: int, side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A disc (class 0) or a square (class 1) somewhere on a noisy ground: image (side, side, 3) and mask."""
    stream = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx = stream.integers(side // 3, side - side // 3, 2)
    distance = np.hypot(y - cy, x - cx) if label == 0 else np.maximum(abs(y - cy), abs(x - cx))
    mask = distance < side / 5
    image = np.where(mask[..., None], BIRDS[label], PLACES[place]) + stream.normal(0, 6, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def draw_waterbirds(root: Path, per_group: int = 4, side: int = 48) -> Path:
    """The layout of Waterbirds, `per_group` images in each group of each split; rows in no order of ids."""
    rows = [
        (split, label, place)
        for split in range(3)
        for label in range(2)
        for place in range(2)
        for _ in range(per_group)
    ]
    ids = np.random.default_rng(1).permutation(len(rows)) * 3 + 7
    table = []
    for img_id, (split, label, place) in zip(ids, rows, strict=True):
        image, mask = draw_bird(label, place, side, int(img_id))
        stem = f"{label}/bird.{img_id}"
        halves = mask * np.where(np.arange(side) < side // 2, 1, 2)
        for folder, picture in (("", image), ("masks", mask), ("parts", halves.astype(np.uint8))):
            path = root / folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        table.append((img_id, f"{stem}.png", label, split, place, "none"))
    names = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    pd.DataFrame(table, columns=names).to_csv(root / "metadata.csv", index=False)
    return root


def records(index: ImageIndex) -> list[ImageRecord]:
    """What a stage is told of each image."""
    return [
        ImageRecord(
            int(index.image_ids[row]),
            index.path(row),
            index.beside(index.masks, row),
            index.beside(index.part_masks, row),
        )
        for row in range(len(index))
    ]


def segment_columns(found: Sequence[NDArray[np.bool_]]) -> dict[str, pa.Array]:
    """What the stage `segments` writes of images whose masks (S, H, W) are these, in this order."""

    class Given(Segmenter):
        def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
            return found[record.image_id]

    images = [np.zeros((*masks.shape[1:], 3), np.uint8) for masks in found]
    told = [ImageRecord(position, Path("none")) for position in range(len(found))]
    return Segments(segmenter=Given()).load({}, "cpu")(Batch(told, images, {})).columns


def run_map(
    stage_map: BatchMap,
    index: ImageIndex,
    inputs: Mapping[str, Column],
    prepare: Preparation | None = None,
) -> tuple[list[pa.Table], dict[int, str]]:
    """A stage's map over the images, in batches, image by image where a batch raises: rows and failures."""
    tables: list[pa.Table] = []
    failures: dict[int, str] = {}

    def attempt(part: list[ImageRecord]) -> None:
        ids = np.array([record.image_id for record in part])
        try:
            decoded = [decode(record.path) for record in part]
            images = [prepare(image) for image in decoded] if prepare else decoded
            sizes = [image.shape[:2] for image in decoded]
            rows = {name: column.read(ids, column.fields) for name, column in inputs.items()}
            columns = stage_map(Batch(part, images, rows, sizes)).columns
            tables.append(pa.table({IMAGE_ID: ids, **columns}))
        except Exception as error:
            if len(part) == 1:
                failures[part[0].image_id] = repr(error)
                return
            for record in part:
                attempt([record])

    todo = records(index)
    for start in range(0, len(todo), BATCH):
        attempt(todo[start : start + BATCH])
    return tables, failures


def column(folder: Path, tables: list[pa.Table], failures: Mapping[int, str] | None = None) -> Column:
    """The tables as the parts of a column, the last one first."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, failed = [], []
    for number, table in enumerate(reversed(tables)):
        parts.append(str(folder / f"part-{number}.parquet"))
        pq.write_table(table, parts[-1])
    if failures:
        failed.append(str(folder / "failed.parquet"))
        pq.write_table(pa.table({IMAGE_ID: list(failures), ERROR: list(failures.values())}), failed[-1])
    return Column(parts, failed, LocalFileSystem())


def run_stages(stages: Mapping[str, Stage], card: Card, index: ImageIndex, folder: Path) -> Data:
    """Runs the stages and what they read; the data set as a trial with these stages sees it."""
    done: dict[Stage, Any] = {}

    def result(stage: Stage) -> Any:
        if stage not in done:
            done[stage] = compute(stage)
        return done[stage]

    def compute(stage: Stage) -> Any:
        inputs = {name: result(read) for name, read in stage.inputs().items()}
        columns = {name: value for name, value in inputs.items() if isinstance(value, Column)}
        tensors = {name: value for name, value in inputs.items() if name not in columns}
        if isinstance(stage, TensorStage):
            return stage.compute(Data(card, index, columns, tensors), "cpu", lambda step, **metrics: None)
        assert isinstance(stage, ColumnStage)
        images = index if stage.sample is None else stage.sample.of(index)
        tables, failures = run_map(stage.load(tensors, "cpu"), images, columns, stage.preparation())
        return column(folder / f"{stage.kind}-{len(done)}", tables, failures)

    results = {name: result(stage) for name, stage in stages.items()}
    columns = {name: value for name, value in results.items() if isinstance(value, Column)}
    return Data(card, index, columns, {n: value for n, value in results.items() if n not in columns})
