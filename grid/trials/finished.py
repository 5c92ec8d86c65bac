"""A finished trial, opened again: its method, its weights, and the data as it saw them. No model is run."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from components.data.columns import Column, Data
from components.method import Fitted, Method
from grid.inputs.datasets import Dataset, open_data, read, sources
from grid.names import component_class
from grid.progress import Display
from grid.refused import Refused
from grid.spec.build import build
from grid.spec.spec import SpecError, parse_spec
from grid.stores.evidence import LeftEvidence
from grid.stores.world import World

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class FinishedTrial:
    """What a trial left. stages: artifact keys by the method's names for them."""

    id: str
    method_name: str
    method: Method
    seed: int
    fitted: Fitted
    data: Data
    stages: dict[str, str]

    def inputs(self, world: World, stage: str) -> dict[str, Tensors]:
        """What the tensor stages wrote that a stage of this trial read, by their names there: the weights of
        the backbone, say, under `classifier`."""
        keys = world.store.manifest(self.stages[stage])["identity"]["inputs"]
        return {name: world.store.tensors(key) for name, key in keys.items() if _is_tensors(world, key)}


def open_finished(world: World, id_or_prefix: str) -> FinishedTrial:
    """The trial of this id, or the beginning of one.

    Raises LookupError if there is not exactly one; Refused if it is not done, was made by another version of
    its method, its data set is not as it was, or a stage's artifact is gone; BrokenArtifact and
    BrokenEvidence.
    """
    found = world.results.trial(id_or_prefix)
    trial_id = found["id"]
    if found["status"] != "done":
        raise Refused(f"trial {trial_id} is {found['status']}: only one that is done left weights")
    cls = component_class(Method.FOLDER, found["method"])
    if found["method_version"] != cls.VERSION:
        raise Refused(
            f"trial {trial_id} was made by version {found['method_version']} of {found['method']}, "
            f"this is version {cls.VERSION}"
        )
    method = build(cls, json.loads(found["config"]), f"trial {trial_id}")
    stages = {stage["name"]: stage["stage_key"] for stage in found["stages"]}
    missing = [name for name, key in stages.items() if not world.store.has(key)]
    if missing:
        again = ", ".join(found["experiments"])
        raise Refused(f"trial {trial_id}: no artifact of {', '.join(missing)} any more; run {again} again")
    left = LeftEvidence(trial_id, found["artifacts_uri"])
    return FinishedTrial(
        id=trial_id,
        method_name=found["method"],
        method=method,
        seed=found["seed"],
        fitted=Fitted(left.tensors(), left.facts()),
        data=_data(world, found, stages, method.TRAINING_COLUMNS),
        stages=stages,
    )


def _is_tensors(world: World, key: str) -> bool:
    return bool(world.store.manifest(key)["sort"] == "tensors")


def _data(
    world: World, found: dict[str, Any], stages: dict[str, str], training_columns: frozenset[str]
) -> Data:
    sorts = {name: _is_tensors(world, key) for name, key in stages.items()}
    columns: dict[str, Column] = {
        n: world.store.column(stages[n]) for n, tensors in sorts.items() if not tensors
    }
    tensors = {n: world.store.tensors(stages[n]) for n, is_tensors in sorts.items() if is_tensors}
    dataset = _dataset(world, found)
    return open_data(
        dataset,
        columns=columns,
        tensors=tensors,
        on_failed=found["on_failed"] or "wrong",
        training_columns=training_columns,
    )


def _dataset(world: World, found: dict[str, Any]) -> Dataset:
    """The data set as the newest launch whose spec names it has it, if its content is still the same."""
    missing = f"no launch of {', '.join(found['experiments'])} names it"
    for experiment in found["experiments"]:
        for launch in reversed(world.results.experiment_summary(experiment)["launches"]):
            try:
                spec = parse_spec(yaml.safe_load(launch["spec"]), experiment)
                with Display(stderr=True) as display:
                    named = [one for one in sources(spec) if one.card.name == found["dataset"]]
                    datasets = [read(source, world.hashes, display) for source in named]
            except SpecError:
                continue
            for dataset in datasets:
                if dataset.fingerprint == found["data_fingerprint"]:
                    return dataset
                missing = dataset.missing or "its content has changed since"
    raise Refused(f"trial {found['id']}: data set {found['dataset']}: {missing}")


def row_of(data: Data, image_id: int) -> int:
    """Position of an image in the index; Refused if it is not in the data set, or failed in a stage."""
    (row,) = data.rows(np.array([image_id])).tolist()
    ids = data.index.image_ids
    if row >= len(ids) or ids[row] != image_id:
        raise Refused(f"image {image_id} is not in {data.card.name}: ids go from {ids[0]} to {ids[-1]}")
    if not data.usable(np.array([image_id]))[0]:
        raise Refused(f"image {image_id} failed in a stage of this trial")
    return int(row)
