"""What the benchmarks of stages share: images on disk, and stages run over them by one pipeline."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from components.data.card import Card
from components.data.images import ImageIndex
from components.identity import configuration
from components.stage import ColumnStage
from grid.inputs.datasets import Dataset
from grid.planning.planned import PlannedStage
from grid.spec.spec import StageResources
from grid.stages.pipeline import Progress, StageFailed, run_column_stages
from grid.stores.artifacts import ArtifactStore

CARD = Card(
    name="photographs", title="", source="", licence="", layout="", image_size=224, classes=("a", "b")
)


def photographs(root: Path, count: int, height: int, width: int) -> ImageIndex:
    """JPEGs with structure at all scales, drawn from a fixed seed."""
    stream = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(stream.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(root / f"{i}.jpg", quality=90)
    return index_of(root, [f"{i}.jpg" for i in range(count)])


def index_of(root: Path, paths: list[str]) -> ImageIndex:
    """An index of these files, a row each, even where a file comes twice."""
    count = len(paths)
    return ImageIndex(
        root=root,
        image_ids=np.arange(count),
        paths=np.array(paths, dtype=object),
        labels=np.zeros(count, np.int64),
        groups=np.zeros(count, np.int64),
        splits=np.array(["test"] * count, dtype=object),
        classes=CARD.classes,
        group_names=CARD.classes,
    )


def run_stages(
    stages: Mapping[str, ColumnStage],
    index: ImageIndex,
    store: ArtifactStore,
    resources: StageResources,
    total: Mapping[str, float],
    inputs: Mapping[str, PlannedStage] | None = None,
    progress: Progress = lambda stage, done: None,
) -> float:
    """Seconds of one pipeline of these stages, by key, from its start to the published artifacts. inputs: by
    the stages' field names, what lies in the store already."""
    planned_inputs = dict(inputs or {})
    planned = [
        PlannedStage(
            key=key,
            stage=stage,
            dataset=Dataset(CARD, index.root, index, "benchmark"),
            inputs={name: value.key for name, value in planned_inputs.items()},
            identity={"parameters": configuration(stage)},
            unresolved=(),
        )
        for key, stage in stages.items()
    ]
    known = {stage.key: stage for stage in [*planned, *planned_inputs.values()]}
    start = time.perf_counter()
    for _, outcome in run_column_stages(planned, known, store, lambda _: resources, total, 0.0, progress):
        if isinstance(outcome, StageFailed):
            raise outcome
    return time.perf_counter() - start
