"""A stage in a worker, without Ray: failures stay with their image, and memory that runs out halves the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.data.columns import ERROR, IMAGE_ID
from components.data.images import resized
from components.models.weights.loading import WrongWeights
from components.stage import (
    Batch,
    BatchMap,
    ColumnStage,
    ImageRecord,
    Preparation,
    Rows,
    Tensors,
    fixed_size_lists,
)
from grid.stages import reading
from grid.stages.reading import MASK, PART_MASK, PATH, StageTask, placed, read_images
from grid.stages.worker import BROKEN, ROWS, STAGE, UNLIMITED, StageActor, run_rows, write_part
from grid.stores.artifacts import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class MeanColour(ColumnStage):
    """A stage that refuses images that are all black."""

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        def mean(batch: Batch) -> Rows:
            if any(not image.any() for image in batch.images):
                raise ValueError("an image is black")
            values = np.stack([image.mean(axis=(0, 1)) for image in batch.images])
            return Rows({"mean": fixed_size_lists(values)}, len(batch))

        return mean


def batch(values: list[int]) -> Batch:
    records = [ImageRecord(i, Path(f"{i}.png")) for i in range(len(values))]
    return Batch(records, [np.full((2, 3, 3), value, np.uint8) for value in values], {})


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_only_the_rows_that_raise_fail(values: list[int]) -> None:
    outcome = run_rows(MeanColour().load({}, "cpu"), batch(values))
    assert [error is not None for error in outcome.errors] == [value == 0 for value in values]
    assert outcome.model_inputs == sum(value > 0 for value in values)
    if outcome.columns:
        means = outcome.columns["mean"].combine_chunks().flatten().to_numpy().reshape(-1, 3)
        np.testing.assert_array_equal(means[:, 0], [value for value in values if value])


@given(st.integers(1, 40), st.integers(1, 40))
def test_out_of_memory_halves_the_batch_and_loses_nothing(rows: int, room: int) -> None:
    stage_map = MeanColour().load({}, "cpu")
    sizes: list[int] = []

    def small_device(part: Batch) -> Rows:
        if len(part) > room:
            raise MemoryError("out of accelerator memory")
        sizes.append(len(part))
        return stage_map(part)

    outcome = run_rows(small_device, batch([5] * rows))
    assert outcome.errors == [None] * rows
    assert sum(sizes) == outcome.model_inputs == rows
    assert max(sizes) <= room
    assert room / 2 <= outcome.fits <= room if rows > room else outcome.fits == UNLIMITED


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    """Ten images: 2 is truncated, 5 is black, 7 is not there; 3 is grey, 4 has an alpha channel, sizes differ."""
    stream = np.random.default_rng(0)
    paths = []
    for i in range(10):
        path = tmp_path / f"{i}.{'png' if i == 4 else 'jpg'}"
        pixels = stream.integers(1, 255, (20 + i, 30, 3), dtype=np.uint8) * (i != 5)
        mode = {3: "L", 4: "RGBA"}.get(i, "RGB")
        Image.fromarray(pixels).convert(mode).save(path)
        paths.append(path)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: len(content) // 2])
    paths[7].unlink()
    nothing = pa.nulls(10, pa.string())
    return pa.table(
        {IMAGE_ID: np.arange(10), PATH: [str(p) for p in paths], MASK: nothing, PART_MASK: nothing}
    )


def run_stages(tasks: Sequence[StageTask], images: pa.Table, parts: int = 1) -> list[dict[str, Any]]:
    """What becomes of the parts of all stages' images, in turn, by one replica."""
    of = {task.key: task for task in tasks}
    actor, size = StageActor(of, "cpu"), -(-len(images) // parts)
    placings = [placed(images, task) for task in tasks]
    blocks = [placing.slice(start, size) for start in range(0, len(images), size) for placing in placings]
    decoded = [table for block in blocks for table in read_images(block, of)]
    outputs = [write_part(pa.concat_tables(actor(table), promote_options="default"), of) for table in decoded]
    return [row for output in outputs for row in output.to_pylist()]


def run_stage(task: StageTask, images: pa.Table) -> None:
    assert sum(row[ROWS] for row in run_stages([task], images)) == len(images)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_each_failure_is_a_row_with_its_reason(images: pa.Table, tmp_path: Path, batch_size: int) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    run_stage(StageTask(MeanColour(), "k", {}, {}, store, batch_size), images)
    failures = store.failures("k")
    assert sorted(failures) == [2, 5, 7]
    assert "truncated" in failures[2].lower()
    assert "black" in failures[5]
    assert "FileNotFoundError" in failures[7]
    np.testing.assert_array_equal(store.stored_ids("k"), np.arange(10))
    column = store.column("k")
    assert column.failures == failures
    assert column.fields == ["mean"]
    np.testing.assert_array_equal(column.ids, [0, 1, 3, 4, 6, 8, 9])
    for image_id in column.ids:
        with Image.open(images[PATH][int(image_id)].as_py()) as image:
            expected = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
        np.testing.assert_allclose(column.array("mean", np.array([image_id]))[0], expected)
    with pytest.raises(KeyError, match="image 2"):
        column.array("mean", np.array([1, 2]))


@dataclass(frozen=True, kw_only=True)
class SmallDevice(MeanColour):
    """MeanColour, prepared to squares, on a device with room for three images; writes down what it is given."""

    seen: list[int]

    def preparation(self) -> Preparation:
        return lambda image: resized(image, 8)

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        mean = super().load(tensors, device)

        def small(batch: Batch) -> Rows:
            self.seen.append(len(batch))
            if len(batch) > 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
            assert {image.shape for image in batch.images} == {(8, 8, 3)}
            assert all(
                size == (20 + record.image_id, 30)
                for size, record in zip(batch.sizes, batch.records, strict=True)
            )
            return mean(batch)

        return small


def test_a_replica_remembers_how_much_fits(images: pa.Table, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    stage = SmallDevice(seen=[])
    good = images.filter(pa.array([i not in {2, 5, 7} for i in range(10)]))
    run_stage(StageTask(stage, "k", {}, {}, store, 7), pa.concat_tables([good, good]))
    assert stage.seen == [7, 3, 4, 2, 2, 2, 2, 2, 1]
    assert store.least("k", "device_batch") == 2
    assert store.failures("k") == {}


@dataclass(frozen=True, kw_only=True)
class NoModel(MeanColour):
    """A stage whose weights are of another model."""

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        raise WrongWeights("weights a.pth: not of this architecture")


def test_a_model_that_does_not_load_is_said_when_the_first_batch_comes(
    images: pa.Table, tmp_path: Path
) -> None:
    """Not before, and not raised: the actor would be started again and again."""
    store = ArtifactStore(str(tmp_path / "store"))
    (said,) = run_stages([StageTask(NoModel(), "k", {}, {}, store, 5)], images)
    reason = "WrongWeights: weights a.pth: not of this architecture"
    assert said == {STAGE: "k", ROWS: 0, BROKEN: reason}
    assert len(store.stored_ids("k")) == 0


def test_stages_that_share_a_replica_write_what_each_writes_alone(images: pa.Table, tmp_path: Path) -> None:
    alone, shared = (ArtifactStore(str(tmp_path / name)) for name in ("alone", "shared"))
    stages = {"mean": MeanColour(), "small": SmallDevice(seen=[]), "none": NoModel()}
    for key in ("mean", "small"):
        run_stage(StageTask(stages[key], key, {}, {}, alone, 3), images)
    tasks = [StageTask(stage, key, {}, {}, shared, 3) for key, stage in stages.items()]
    said = run_stages(tasks, images, parts=4)
    assert [row[STAGE] for row in said] == 4 * list(stages), "a part of each in turn"
    assert [row[STAGE] for row in said if row[BROKEN]] == 4 * ["none"]
    for key in ("mean", "small"):
        ids = alone.column(key).ids
        np.testing.assert_array_equal(shared.stored_ids(key), np.arange(10))
        assert shared.failures(key) == alone.failures(key)
        np.testing.assert_array_equal(
            shared.column(key).array("mean", ids), alone.column(key).array("mean", ids)
        )
        assert shared.total(key, "model_inputs") == alone.total(key, "model_inputs") == 7


def test_large_photographs_travel_in_several_tables(
    images: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = StageTask(MeanColour(), "k", {}, {}, ArtifactStore(str(tmp_path / "store")), 5)
    (whole,) = read_images(placed(images, task), {"k": task})
    monkeypatch.setattr(reading, "BLOCK_BYTES", 3 * 30 * 3 * 20)
    parts = list(read_images(placed(images, task), {"k": task}))
    assert len(parts) > 2
    assert pa.concat_tables(parts).equals(whole)


@dataclass(frozen=True, kw_only=True)
class Doubled(ColumnStage):
    """A stage that reads another one, and no image."""

    DECODES: ClassVar[bool] = False

    source: MeanColour

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        def double(batch: Batch) -> Rows:
            means = batch.inputs["source"]["mean"].combine_chunks().flatten().to_numpy().reshape(-1, 3)
            return Rows({"double": fixed_size_lists(2 * means)}, len(batch))

        return double


def test_a_stage_reads_the_rows_of_another_and_inherits_its_failures(
    images: pa.Table, tmp_path: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    source = MeanColour()
    run_stage(StageTask(source, "first", {}, {}, store, 4), images)
    shuffled = images.take(np.random.default_rng(1).permutation(10))
    run_stage(StageTask(Doubled(source=source), "second", {"source": "first"}, {}, store, 4), shuffled)
    assert sorted(store.failures("second")) == [2, 5, 7]
    assert "source: ValueError: an image is black" in store.failures("second")[5]
    ids = store.column("second").ids
    np.testing.assert_allclose(
        store.column("second").array("double", ids), 2 * store.column("first").array("mean", ids)
    )


def test_a_part_written_again_replaces_itself(images: pa.Table, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    task = StageTask(MeanColour(), "k", {}, {}, store, 5)
    for _ in range(2):
        run_stage(task, images)
    np.testing.assert_array_equal(store.stored_ids("k"), np.arange(10))
    assert store.total("k", "model_inputs") == 7
    store.forget_failures("k")
    np.testing.assert_array_equal(store.stored_ids("k"), [0, 1, 3, 4, 6, 8, 9])


def test_rows_travel_without_an_error_column_of_their_own(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    store.write_part("k", pa.table({IMAGE_ID: [1], ERROR: pa.nulls(1, pa.string()), "x": [2.0]}))
    assert store.column("k").fields == ["x"]
