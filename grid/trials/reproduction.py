"""Where the numbers of a trial came from, and whether they come again here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from grid.inputs.datasets import Dataset, locate, read, sources
from grid.planning.planning import plan_of
from grid.progress import Display
from grid.refused import Refused
from grid.results.entry import GENERATOR, flattened, shown_values
from grid.results.report import metric_row
from grid.spec.block import METHOD
from grid.spec.drawings import drawings
from grid.spec.spec import DatasetEntry, Spec, SpecError, parse_spec
from grid.stores.world import World
from grid.trials.single import run_single

Key = tuple[str, str, str, str]  # name, split, group, selection


@dataclass(frozen=True)
class Origin:
    """A done trial as the results store has it, and a spec that asks for it alone, by a name of its own, so
    that the experiment stays as it is when it is run."""

    trial: dict[str, Any]
    spec: Spec


@dataclass(frozen=True)
class Difference:
    """A number that is not the same again. None: it is none, or not there."""

    name: str
    split: str
    group: str
    selection: str
    stored: float | None
    here: float | None

    @property
    def size(self) -> float:
        """Infinite where one of them is no number."""
        return float("inf") if self.stored is None or self.here is None else abs(self.here - self.stored)


def origin(world: World, id_or_prefix: str) -> Origin:
    """Raises LookupError if there is not exactly one such trial; Refused if it is not done, or the results
    store has no spec of it any more."""
    trial = world.results.trial(id_or_prefix)
    if trial["status"] != "done":
        raise Refused(f"trial {trial['id']} is {trial['status']}: only one that is done has numbers")
    gone = f"trial {trial['id']}: the spec that it was run by is not in the results store any more"
    launches = (
        launch
        for experiment in trial["experiments"]
        for launch in world.results.experiment_summary(experiment)["launches"]
        if launch["id"] == trial["launch_id"]
    )
    launch = next(launches, None)
    if launch is None:
        raise Refused(gone)
    try:
        spec = parse_spec(yaml.safe_load(launch["spec"]), launch["experiment"])
        entry = next(entry for entry in drawings(spec) if _is_its_data(entry, trial))
    except (AttributeError, TypeError, StopIteration, SpecError, yaml.YAMLError) as error:
        raise Refused(f"{gone}: launch {launch['id']} has {error or 'another data set'}") from error
    knobs = json.loads(trial["config"])
    fixed = {name: [value] if isinstance(value, list) else value for name, value in knobs.items()}
    alone = Spec(
        name=f"{launch['experiment']}-{trial['id'][:8]}",
        datasets=[entry],
        seeds=[trial["seed"]],
        methods=[{METHOD: trial["method"], **fixed}],
        resources=spec.resources,
        max_failed_fraction=spec.max_failed_fraction,
        on_failed=trial["on_failed"] or spec.on_failed,
    )
    return Origin(trial, alone)


def _is_its_data(entry: DatasetEntry, trial: dict[str, Any]) -> bool:
    """Whether a trial read this data set, drawn as it was; a store may not have kept how."""
    if entry.name != trial["dataset"]:
        return False
    kept = {row["name"]: row["value"] for row in trial["params"] if row["name"].startswith(f"{GENERATOR}.")}
    drawn = shown_values({GENERATOR: locate(entry).drawing.get(GENERATOR, {})})
    return not kept or kept == drawn


def data_here(world: World, found: Origin) -> Dataset:
    """The trial's data set as it is here; Refused if it is not there, or has changed."""
    trial, (source,) = found.trial, sources(found.spec)
    with Display(stderr=True) as display:
        dataset = read(source, world.hashes, display)
    if dataset.fingerprint is None:
        raise Refused(f"trial {trial['id']}: {dataset.missing}")
    if dataset.fingerprint != trial["data_fingerprint"]:
        raise Refused(
            f"trial {trial['id']}: data set {dataset.name} has changed since: its fingerprint was "
            f"{trial['data_fingerprint']} and is {dataset.fingerprint}"
        )
    return dataset


def weights_of(world: World, found: Origin) -> Iterator[tuple[str, str]]:
    """Kind of stage and content hash of every checkpoint that the trial's stages loaded, theirs too that
    these read; as far as their artifacts are still there."""
    waiting = [stage["stage_key"] for stage in found.trial["stages"]]
    seen: set[str] = set()
    while waiting:
        key = waiting.pop(0)
        if key in seen or not world.store.has(key):
            continue
        seen.add(key)
        identity = world.store.manifest(key)["identity"]
        for path, value in flattened(identity["parameters"]):
            if path[-1] == "checkpoint" and value is not None:
                yield identity["kind"], value
        waiting += identity["inputs"].values()


def run_again(world: World, found: Origin) -> dict[str, Any]:
    """The report of the trial, run here in this process; its files lie beside those of its attempts.

    Refused, in one line, if its data have changed, this code would make another trial of it, or artifacts of
    its stages are gone.
    """
    trial, dataset = found.trial, data_here(world, found)
    plan = plan_of(found.spec, [dataset], world)
    (planned,) = plan.trials
    if planned.id != trial["id"]:
        stored = {stage["name"]: stage["stage_key"] for stage in trial["stages"]}
        version = planned.entry().method_version
        reasons = [f"other {name}" for name, key in planned.stages.items() if stored.get(name) != key]
        if version != trial["method_version"]:
            reasons = [f"version {version} of its method, and not {trial['method_version']}"]
        why = ", ".join(reasons) or "other weights that it loads itself"
        raise Refused(f"trial {trial['id']} would be another one here: {why}")
    missing = sorted({plan.stages[key].stage.kind for key in planned.closure if key not in plan.cached})
    if missing:
        raise Refused(
            f"trial {trial['id']}: no artifact of {', '.join(missing)} any more; a run of the spec that "
            f"`python -m grid reproduce {trial['id']}` prints, with another CONCEPTGRID_HOME, makes them and "
            "the trial"
        )
    return run_single(plan, planned.id, world.store)


def differences(found: Origin, report: dict[str, Any]) -> tuple[int, list[Difference]]:
    """How many results both have together, and those that are not the same to the last digit, the largest
    difference first. Training curves are not compared."""
    stored = _results(found.trial["metrics"])
    here = _results([metric_row(found.trial["id"], metric) for metric in report["metrics"]])
    keys = list({**stored, **here})
    nothing = (None, "absent")
    unlike = [key for key in keys if stored.get(key, nothing) != here.get(key, nothing)]
    told = [Difference(*key, stored.get(key, nothing)[0], here.get(key, nothing)[0]) for key in unlike]
    return len(keys), sorted(told, key=lambda difference: -difference.size)


def _results(metrics: list[dict[str, Any]]) -> dict[Key, tuple[float | None, str]]:
    return {
        (m["name"], m["split"], m["group_name"], m["selection"]): (m["value"], m["status"])
        for m in metrics
        if m["step"] is None
    }
