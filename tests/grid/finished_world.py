"""A results store with finished trials, made in one process in seconds: no Ray, no MLflow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from components.data.columns import Data
from components.stage import ColumnStage, TensorStage
from grid.inputs.datasets import locate, open_data, read
from grid.planning.plan import Plan
from grid.planning.planned import PlannedStage
from grid.planning.planning import plan_of
from grid.progress import Display
from grid.spec.spec import parse_spec
from grid.stores.world import World, open_world
from grid.trials.single import task_of
from grid.trials.trial import run_trial
from tests.world import run_map

CLIP = {"checkpoint": "datasets/toybirds/clip"}
RECIPE = {"epochs": 2, "batch_size": 16}
CONCEPTS = {
    "clip": CLIP,
    "recipe": RECIPE,
    "steps": 40,
    "path_length": 4,
    "path_ratio": 0.1,
    "lambda_sparse": 0.001,
    "lambdas": [[0.001]],
}
SPEC: dict[str, Any] = {
    "name": "small",
    "methods": [
        {"method": "salf_cbm", **CONCEPTS, "grid_size": 3, "frame": "squash"},
        {"method": "lf_cbm", **CONCEPTS, "clip_cutoff": -1, "interpretability_cutoff": -1},
        {"method": "standard", "recipe": RECIPE},
    ],
}


@dataclass(frozen=True)
class Finished:
    """ids: of the trials, by method, and of the one that stayed `pending`."""

    home: Path
    world: World
    ids: dict[str, str]


def finish_trials(root: Path, home: Path) -> Finished:
    """Runs SPEC on the birds at `root` in the process's `home`, and enters one more trial that stays pending,
    `standard` with another seed."""
    world = open_world(None, None)
    spec = parse_spec({**SPEC, "datasets": [{"name": "toybirds", "root": str(root)}]}, "test")
    plan = plan_of(spec, [read(locate(spec.datasets[0]), world.hashes, Display())], world)
    for stage in plan.stages.values():
        _compute(stage, plan, world)
    launch = world.results.begin_launch(
        spec.name, spec=yaml.safe_dump(spec.model_dump(mode="json")), plan={}, command="test"
    )
    ids = {trial.method_name: trial.id for trial in plan.trials}
    world.results.enter(spec.name, [trial.entry() for trial in plan.trials])
    for trial in plan.trials:
        attempt = world.results.claim(trial.id, launch)
        assert attempt is not None
        report = run_trial(task_of(plan, trial, attempt), trial.dataset, world.store)
        assert world.results.finish(trial.id, report)
    again = plan.planner.trial(plan.trials[-1].candidate, plan.datasets[0], 7)
    world.results.enter(spec.name, [again.entry()])
    return Finished(home, world, {**ids, "pending": again.id})


def _compute(planned: PlannedStage, plan: Plan, world: World) -> None:
    store, stage = world.store, planned.stage
    sorts = {name: isinstance(plan.stages[key].stage, TensorStage) for name, key in planned.inputs.items()}
    tensors = {n: store.tensors(planned.inputs[n]) for n, is_tensors in sorts.items() if is_tensors}
    columns = {n: store.column(planned.inputs[n]) for n, is_tensors in sorts.items() if not is_tensors}
    dataset = plan.datasets[0]
    if isinstance(stage, TensorStage):
        data: Data = open_data(dataset, columns=columns, tensors=tensors)
        store.write_tensors(planned.key, stage.compute(data, "cpu", lambda step, **metrics: None))
    else:
        assert isinstance(stage, ColumnStage)
        assert dataset.index is not None
        tables, failed = run_map(stage.load(tensors, "cpu"), dataset.index, columns, stage.preparation())
        assert not failed
        for table in tables:
            store.write_part(planned.key, table.append_column("error", pa.nulls(len(table), pa.string())))
    sort = "tensors" if isinstance(stage, TensorStage) else "column"
    told = {"key": planned.key, "sort": sort, "identity": planned.identity}
    store.publish(planned.key, {**told, "images": planned.images, "failed": 0})
