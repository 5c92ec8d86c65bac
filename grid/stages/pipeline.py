"""Stages on Ray: column stages stream through Ray Data, tensor stages are tasks.

A pipeline: 1. blocks of image paths (driver) -> 2. decode, and read the inputs' rows (CPU tasks) -> 3. the
model (a pool of actors, one replica each) -> 4. write one part per block (CPU tasks). Images whose rows are
stored already are left out, so that a killed pipeline goes on where it stopped. Several stages share one, one
after the other: to start processes and import their libraries takes longer than many a stage.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from components.data.columns import IMAGE_ID
from components.data.images import ImageIndex, blocks
from components.data.written import one_line
from components.stage import ColumnStage, TensorStage
from grid.inputs.datasets import open_data
from grid.planning.plan import by_sort
from grid.planning.planned import PlannedStage
from grid.spec.spec import StageResources
from grid.stages.cluster import IO_CPUS, replicas_for
from grid.stages.reading import MASK, PART_MASK, PATH, STAGE, StageTask, Tasks, placed, read_images
from grid.stages.worker import BROKEN, DEVICE_BATCH, MODEL_INPUTS, ROWS, SECONDS, StageActor, write_part
from grid.stores.artifacts import ArtifactStore, BrokenArtifact
from grid.stores.provenance import provenance

PART_IMAGES = 256  # rows of a part at most: what a kill can cost
PARTS_PER_REPLICA = 4  # at least, as far as batches stay whole: else few images would keep one replica busy
REASONS_SHOWN = 3


class StageFailed(RuntimeError):  # noqa: N818  reads as the message does
    """A stage could not be finished; the message says why, and what is kept."""


@dataclass
class _Running:
    """A column stage of a pipeline: what its workers are told, its images, those without a row, their paths
    in parts, and how many of them have got a row."""

    planned: PlannedStage
    task: StageTask
    index: ImageIndex
    todo: ImageIndex
    paths: list[pa.Table]
    rows: int = 0

    @property
    def done(self) -> int:
        """Images with a row."""
        return len(self.index) - len(self.todo) + self.rows


Progress = Callable[[PlannedStage, int], None]  # progress(stage, how many of its images are done)
Ended = tuple[PlannedStage, dict[str, Any] | StageFailed]  # a stage with its manifest, or with why it failed


def run_column_stages(
    group: Sequence[PlannedStage],
    stages: Mapping[str, PlannedStage],
    store: ArtifactStore,
    resources: Callable[[str], StageResources],
    cluster: Mapping[str, float],
    max_failed_fraction: float,
    progress: Progress,
) -> Iterator[Ended]:
    """Runs these stages, none of which reads another, over their data sets in one pipeline, one after the
    other, and publishes their artifacts; gives each when it has ended.

    resources: by stage kind; all want the same but for their batches. A stage fails if more than
    `max_failed_fraction` of its images fail, if rows are lost, or if its model cannot be loaded: then the
    pipeline ends, and stages that were not given want another one. Raises ray.exceptions.RayError where a
    pipeline breaks, by any of the stages that were not given.
    """
    start = time.time()
    pool = resources(group[0].stage.kind)
    replicas = replicas_for(pool, cluster)
    waiting: dict[str, _Running] = {}
    for planned in group:
        try:
            waiting[planned.key] = _begun(planned, stages, store, resources(planned.stage.kind), replicas[1])
        except BrokenArtifact as error:
            yield planned, StageFailed(str(error))
    parts = [part for stage in waiting.values() for part in stage.paths]
    replicas = (min(replicas[0], max(len(parts), 1)), min(replicas[1], max(len(parts), 1)))  # no idle ones

    def finished(stage: _Running) -> Ended:
        del waiting[stage.task.key]
        try:
            return stage.planned, _finished(stage, store, pool, replicas[1], start, max_failed_fraction)
        except (StageFailed, BrokenArtifact) as error:
            return stage.planned, StageFailed(str(error))

    for stage in [stage for stage in waiting.values() if not stage.paths]:
        yield finished(stage)
    tasks = {key: stage.task for key, stage in waiting.items()}
    for written in _stream(parts, tasks, pool, replicas):
        stage = waiting[written[STAGE]]
        if written[BROKEN]:
            yield stage.planned, StageFailed(written[BROKEN])
            return
        stage.rows += written[ROWS]
        progress(stage.planned, stage.done)
        if stage.rows == len(stage.todo):
            yield finished(stage)
            start = time.time()
    for stage in list(waiting.values()):
        yield finished(stage)


def _begun(
    planned: PlannedStage,
    stages: Mapping[str, PlannedStage],
    store: ArtifactStore,
    resources: StageResources,
    replicas: int,
) -> _Running:
    """BrokenArtifact if an input has lost rows."""
    assert isinstance(planned.stage, ColumnStage)
    assert planned.index is not None
    index = planned.index
    columns, tensors = by_sort(planned.inputs, stages)
    batch_size = resources.batch_size or planned.stage.batch_size
    task = StageTask(planned.stage, planned.key, columns, tensors, store, batch_size, index.mask_values)
    todo = index.rows(~np.isin(index.image_ids, store.stored_ids(planned.key)))
    paths = placed(_paths(todo), task)
    parts = blocks(len(todo), part_size(len(todo), batch_size, replicas))
    sliced = [paths.slice(part.start, part.stop - part.start) for part in parts if len(todo)]
    return _Running(planned, task, index, todo, sliced)


def _finished(
    stage: _Running,
    store: ArtifactStore,
    resources: StageResources,
    replicas: int,
    start: float,
    max_failed_fraction: float,
) -> dict[str, Any]:
    """The manifest of the published artifact. StageFailed if rows are lost or too many images failed."""
    planned, key, index = stage.planned, stage.task.key, stage.index
    failures = _named(_checked(planned, store, index, max_failed_fraction), index)
    found = stage.task.stage.describe(store.column(key))
    model_seconds = store.total(key, SECONDS)  # those of rows that were there, too
    busy = model_seconds * len(stage.todo) / max(len(index), 1) / replicas
    return _publish(
        planned,
        store,
        min(start, time.time() - busy),  # its blocks may overlap the stage before
        device=resources.device,
        sort="column",
        images=len(index),
        failed=len(failures),
        failures={str(i): reason for i, reason in list(failures.items())[:100]},
        images_computed=len(stage.todo),
        images_resumed=len(index) - len(stage.todo),
        model_inputs=int(store.total(key, MODEL_INPUTS)),
        model_seconds=model_seconds,
        batch_size=stage.task.batch_size,
        smallest_device_batch=store.least(key, DEVICE_BATCH),
        replicas=replicas,
        num_gpus=resources.num_gpus,
        found=found.text,
        warning=found.warning,
        **found.numbers,
    )


def part_size(images: int, batch_size: int, replicas: int) -> int:
    """Images of a part: at most PART_IMAGES; fewer, but a batch at least, where replicas would have too few
    parts to share."""
    shared = -(-images // (PARTS_PER_REPLICA * replicas))
    return min(PART_IMAGES, max(batch_size, shared))


def _stream(
    parts: Sequence[pa.Table], tasks: Tasks, resources: StageResources, replicas: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """What `write_part` says of each part."""
    if not parts:
        return
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it says at ERROR, it raises too
    context.enable_progress_bars = False  # ours shows images, and goes to logs as lines
    context.execution_options.preserve_order = True  # a stage after the other: no model is loaded twice
    context.issue_detectors_config.detectors = []  # they warn of every pipeline shorter than its samples
    written = (
        ray.data.from_arrow(list(parts))
        .map_batches(
            read_images,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"tasks": tasks},
            num_cpus=IO_CPUS,
        )
        .map_batches(
            StageActor,
            batch_size=None,  # a block is of one stage, and has its batches
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=replicas[0], max_size=replicas[1]),
            fn_constructor_kwargs={"tasks": tasks, "device": resources.device},
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
        )
        .map_batches(
            write_part,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"tasks": tasks},
            num_cpus=IO_CPUS,
        )
    )
    yield from written.iter_rows()


def _paths(index: ImageIndex) -> pa.Table:
    rows = range(len(index))
    return pa.table(
        {
            IMAGE_ID: index.image_ids,
            PATH: [str(index.path(row)) for row in rows],
            MASK: pa.array([_text(index.beside(index.masks, row)) for row in rows], pa.string()),
            PART_MASK: pa.array([_text(index.beside(index.part_masks, row)) for row in rows], pa.string()),
        }
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _checked(
    planned: PlannedStage, store: ArtifactStore, index: ImageIndex, max_failed_fraction: float
) -> dict[int, str]:
    """The failures, if the rows add up and there are not too many of them."""
    stored = store.stored_ids(planned.key)
    if not np.array_equal(stored, index.image_ids):
        raise StageFailed(
            f"{len(index)} images in, {len(np.unique(stored))} rows out;"
            " the same command computes what is missing"
        )
    failures = store.failures(planned.key)
    if len(failures) > max_failed_fraction * len(index):
        store.forget_failures(planned.key)
        raise StageFailed(
            f"{len(failures)} of {len(index)} images failed, more than"
            f" max_failed_fraction = {max_failed_fraction:g}; {_reasons(failures, index)}"
        )
    return failures


def _reasons(failures: Mapping[int, str], index: ImageIndex) -> str:
    """The commonest reasons, each with how many images it has and the file of the first."""
    files = {reason: file for file, reason in reversed(_files(failures, index))}
    common = Counter(failures.values()).most_common(REASONS_SHOWN)
    return "; ".join(f"{count} x {reason} ({files[reason]})" for reason, count in common)


def _named(failures: Mapping[int, str], index: ImageIndex) -> dict[int, str]:
    """The failures with their files, relative to the data set's root, before their reasons."""
    named = zip(failures, _files(failures, index), strict=True)
    return {image_id: f"{file}: {reason}" for image_id, (file, reason) in named}


def _files(failures: Mapping[int, str], index: ImageIndex) -> list[tuple[str, str]]:
    """The file of each failure, and its reason."""
    rows = np.searchsorted(index.image_ids, list(failures))
    return [(one_line(index.paths[row]), reason) for row, reason in zip(rows, failures.values(), strict=True)]


@ray.remote
def compute_tensors(
    planned: PlannedStage,
    columns: Mapping[str, str],
    tensors: Mapping[str, str],
    store: ArtifactStore,
    device: str,
) -> tuple[float, list[dict[str, Any]]]:
    """Runs a tensor stage in a worker and stores its tensors; returns seconds, and what it reported.

    columns, tensors: keys of its inputs by field name.
    """
    assert isinstance(planned.stage, TensorStage)
    start = time.time()
    history: list[dict[str, Any]] = []

    def report(step: int, **metrics: float) -> None:
        history.append({"step": step, **metrics})
        store.write_progress(planned.key, history[-1])

    data = None
    if planned.dataset is not None:
        data = open_data(
            planned.dataset,
            columns={name: store.column(key) for name, key in columns.items()},
            tensors={name: store.tensors(key) for name, key in tensors.items()},
        )
    computed = planned.stage.compute(data, device, report)  # type: ignore[arg-type]
    store.write_tensors(planned.key, computed)
    return time.time() - start, history


def start_tensor_stage(
    planned: PlannedStage,
    stages: Mapping[str, PlannedStage],
    store: ArtifactStore,
    resources: StageResources,
) -> "ray.ObjectRef[Any]":
    """Hands a tensor stage to the cluster."""
    task = compute_tensors.options(num_cpus=resources.num_cpus, num_gpus=resources.num_gpus)
    columns, tensors = by_sort(planned.inputs, stages)
    return task.remote(planned, columns, tensors, store, resources.device)


def finish_tensor_stage(
    planned: PlannedStage,
    store: ArtifactStore,
    resources: StageResources,
    seconds: float,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Publishes what a tensor stage computed; returns the manifest."""
    return _publish(
        planned,
        store,
        time.time() - seconds,
        device=resources.device,
        sort="tensors",
        num_gpus=resources.num_gpus,
        history=history,
        images=0,
        failed=0,
        model_inputs=0,
    )


def _publish(
    planned: PlannedStage, store: ArtifactStore, start: float, device: str, warning: str = "", **facts: Any
) -> dict[str, Any]:
    """The artifact's manifest. Its `warnings` are the stage's own and those of the stages that it reads."""
    inherited = [text for key in planned.inputs.values() for text in store.warnings(key)]
    own = [f"stage {planned.stage.kind}: {warning}"] if warning else []
    manifest = {
        "key": planned.key,
        "kind": planned.stage.kind,
        "name": planned.stage.kind,
        "identity": planned.identity,
        "params": planned.identity["parameters"],
        "dataset": planned.dataset.name if planned.dataset else None,
        "uri": store.uri(planned.key),
        "bytes": store.bytes(planned.key),
        "seconds": time.time() - start,
        "warnings": list(dict.fromkeys([*inherited, *own])),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        **provenance(device),
        **facts,
    }
    store.publish(planned.key, manifest)
    return manifest
