"""One trial, with no Ray in it: read what the stages wrote, fit, evaluate, explain, leave the evidence.

Everything lies under `trials/<id>/<attempt>/`; the manifest is written last and is the report.
"""

import io
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from components.data.columns import Column, Data
from components.evaluation.pictures import draw
from components.identity import rng
from components.method import Explanation, Fitted, Method, Metric, Picture, step_place
from grid.inputs.datasets import Dataset, open_data
from grid.stores.artifacts import ArtifactStore
from grid.stores.evidence import (
    FACTS,
    FITTED,
    MANIFEST,
    PICTURES,
    PREDICTIONS,
    SUMS,
    Evidence,
    LeftEvidence,
    as_safetensors,
)
from grid.stores.provenance import provenance
from grid.trials.predictions import predictions

FOLDER = "trials"
PICTURES_PER_GROUP = 2
MASKS_NAMED = 100  # of those that a trial left out, in its manifest

OnStep = Callable[[Sequence[Metric]], None]


@dataclass(frozen=True)
class TrialTask:
    """What a worker is told of a trial. columns, tensors: artifact keys by the method's names."""

    id: str
    attempt: int
    method: Method
    data_fingerprint: str
    seed: int
    columns: Mapping[str, str]
    tensors: Mapping[str, str]
    on_failed: str


def trial_folder(trial_id: str, attempt: int) -> str:
    """Where a trial's files lie in the storage."""
    return f"{FOLDER}/{trial_id}/{attempt}"


def run_trial(
    task: TrialTask,
    dataset: Dataset,
    store: ArtifactStore,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Runs the trial and returns its report, which is also its manifest. Whatever fails, raises. on_step is
    told of what the method reports at a step, at once."""
    start = time.time()
    data = _open(task, dataset, store)
    steps: list[Metric] = []

    def report(step: int, **metrics: float) -> None:
        reported = [_step_metric(name, value, step) for name, value in metrics.items()]
        steps.extend(reported)
        if on_step is not None:
            on_step(reported)

    fitted = task.method.fit(data, task.seed, report)
    metrics = task.method.evaluate(fitted, data)
    test = data.split("test")
    folder = trial_folder(task.id, task.attempt)
    evidence = Evidence(store.storage, folder)
    if fitted.tensors:
        evidence.write(FITTED, as_safetensors(fitted.tensors))
    evidence.write_json(FACTS, fitted.facts)
    evidence.write_table(PREDICTIONS, predictions(task.method, fitted, data))
    files = task.method.files(fitted, data)
    for name, text in files.items():
        evidence.write(f"files/{name}", text.encode())
    manifest = {
        "trial": task.id,
        "attempt": task.attempt,
        "metrics": [plain(metric) for metric in [*metrics, *_masks_left_out(data), *steps]],
        "masks_left_out": {path: why for path, (_, why) in list(data.masks_left_out.items())[:MASKS_NAMED]},
        "warnings": _warnings(task, metrics, store),
        "n_failed": int(data.failed(test.ids).sum()),
        "on_failed": task.on_failed,
        "pictures": _write_pictures(evidence, task.method, fitted, data),
        "files": [f"files/{name}" for name in files],
        "seconds": time.time() - start,
        "provenance": provenance(device),
        "uri": store.storage.child(folder),
        SUMS: evidence.sums,
    }
    store.storage.write_json(f"{folder}/{MANIFEST}", manifest)
    return manifest


def _open(task: TrialTask, dataset: Dataset, store: ArtifactStore) -> Data:
    columns: dict[str, Column] = {name: store.column(key) for name, key in task.columns.items()}
    tensors = {name: store.tensors(key) for name, key in task.tensors.items()}
    return open_data(
        dataset,
        columns=columns,
        tensors=tensors,
        on_failed=task.on_failed,
        training_columns=task.method.TRAINING_COLUMNS,
    )


def _masks_left_out(data: Data) -> list[Metric]:
    """How many of each split's masks that were asked for are missing or cannot be used; no metric of none."""
    splits = Counter(str(data.index.splits[row]) for row, _ in data.masks_left_out.values())
    return [Metric("masks_left_out", float(count), split) for split, count in sorted(splits.items())]


def _warnings(task: TrialTask, metrics: Sequence[Metric], store: ArtifactStore) -> list[str]:
    """What a reader of the trial's numbers must know: of the stages that it reads, and of its own."""
    keys = {**task.columns, **task.tensors}.values()
    of_stages = (text for key in keys for text in store.warnings(key))
    return list(dict.fromkeys([*of_stages, *task.method.warnings(metrics)]))


def _step_metric(name: str, value: float, step: int) -> Metric:
    metric, split = step_place(name)
    return Metric(metric, float(value), split, step=step)


def plain(metric: Metric) -> dict[str, Any]:
    """A metric as JSON, in which NaN and infinities are text that `float` reads."""
    value = float(metric.value)
    return {**asdict(metric), "value": value if math.isfinite(value) else str(value)}


def _write_pictures(evidence: Evidence, method: Method, fitted: Fitted, data: Data) -> list[str]:
    """Explanations of a few test images of each group, the same images in every trial on the data set; then
    what the method draws itself, which is wide."""
    shown = _shown(data)
    listed: list[dict[str, Any]] = []

    def write(picture: Picture, wide: bool) -> None:
        file = f"pictures/{picture.name}.jpg"
        evidence.write(file, _jpeg(picture.pixels))
        listed.append({"file": file, "caption": picture.caption, "wide": wide})

    for explanation in method.explain(fitted, data, shown):
        (image,) = data.images(np.array([explanation.image_id]))
        pixels, said = draw(image, explanation)
        caption = "\n".join([_caption(data, explanation), *said])
        write(Picture(str(explanation.image_id), pixels, caption), wide=False)
    for picture in method.pictures(fitted, data, shown):
        write(picture, wide=True)
    if listed:
        evidence.write_json(PICTURES, listed)
    return [str(one["file"]) for one in listed]


def _shown(data: Data) -> list[int]:
    test = data.split("test")
    usable = data.usable(test.ids)
    order = rng(0, "pictures", data.card.name).permutation(len(test.ids))
    chosen: list[int] = []
    for group in np.unique(test.groups):
        members = order[(test.groups == group)[order] & usable[order]]
        chosen += [int(i) for i in test.ids[members[:PICTURES_PER_GROUP]]]
    return chosen


def _caption(data: Data, explanation: Explanation) -> str:
    row = data.rows(np.array([explanation.image_id]))[0]
    group = data.index.group_names[data.index.groups[row]]
    return f"image {explanation.image_id}, {group}: predicted {explanation.title}"


def _jpeg(picture: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    # photographs, a seventh of a PNG's size, and plots, whose words are dark: coarse colours do not blur them
    Image.fromarray(picture).save(stream, format="JPEG", quality=65, subsampling="4:2:0", progressive=True)
    return stream.getvalue()


def finished_report(store: ArtifactStore, trial_id: str, attempt: int) -> dict[str, Any] | None:
    """The report of an attempt that got to its end but not into the results store; else None. BrokenEvidence
    if it cannot be read."""
    if attempt < 1:
        return None
    return LeftEvidence(trial_id, store.storage.child(trial_folder(trial_id, attempt))).report()
