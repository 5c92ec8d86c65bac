"""Overhead per trial: a method that does nothing, through Tune, the results store and MLflow's mirror.

The peer is the same work in a loop: `run_trial` in this process, without Ray, SQL or MLflow.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.noop import Noop
from benchmarks.streams import CARD, photographs
from components.data.fingerprint import FileHashes
from grid.inputs.datasets import Dataset
from grid.planning.plan import Plan, Planner
from grid.planning.proposals import Rest
from grid.progress import Display
from grid.results.store import ResultsStore
from grid.results.throughput import Throughput
from grid.spec.block import Candidate
from grid.spec.spec import Resources, parse_spec
from grid.stages.cluster import cluster
from grid.stores.artifacts import ArtifactStore
from grid.tracking.mirror import Mirror
from grid.trials.launch import run_trials
from grid.trials.recorder import Recorder
from grid.trials.single import task_of
from grid.trials.trial import run_trial

TRIALS = (20, 120)


def plan_of(dataset: Dataset, count: int, folder: Path) -> Plan:
    """A plan of `count` seeds of the no-op."""
    content = {"name": "noop", "datasets": ["x"], "methods": [{}], "seeds": list(range(count))}
    planner = Planner(FileHashes(folder / "hashes.json"), "wrong", Resources())
    trials = tuple(planner.trial(Candidate(Noop()), dataset, seed) for seed in range(count))
    return Plan(
        spec=parse_spec(content, "benchmark"),
        datasets=(dataset,),
        stages={},
        trials=trials,
        cached=frozenset(),
        statuses={},
        budget=count,
        throughput=Throughput(),
        entered=frozenset(),
        recalled=(),
        groups=(),
        planner=planner,
    )


def launched(plan: Plan, folder: Path, total: dict[str, float]) -> tuple[float, float]:
    """Seconds until the last trial is in the results store, and until MLflow has them all too."""
    results = ResultsStore.open(f"sqlite:///{folder / 'results.db'}")
    store = ArtifactStore(str(folder / "artifacts"))
    results.enter("noop", [trial.entry() for trial in plan.trials])
    launch = results.begin_launch("noop", spec="", plan={}, command="")
    mirror = Mirror(f"sqlite:///{folder / 'mlflow.db'}", results, "noop")
    mirror.heal()  # the new database's schema, before the clock starts
    recorder = Recorder(results, store, launch, mirror.submit)
    start = time.perf_counter()
    with Display() as display:
        rest = {"noop": Rest(plan.trials)}
        run_trials(plan, rest, recorder, store, total, display, len(plan.trials), f"noop-{launch}")
    trials = time.perf_counter() - start
    mirror.close()
    return trials, time.perf_counter() - start


def main() -> None:
    """Prints the seconds that one more trial costs, from two sizes."""
    with tempfile.TemporaryDirectory() as name, cluster(None) as total:
        folder = Path(name)
        (folder / "images").mkdir()
        index = photographs(folder / "images", 8, 224, 224)
        dataset = Dataset(CARD, index.root, index, "benchmark")
        times = []
        for count in TRIALS:
            place = folder / str(count)
            place.mkdir()
            times.append(launched(plan_of(dataset, count, place), place, dict(total)))
        plan = plan_of(dataset, 50, folder)
        start = time.perf_counter()
        for trial in plan.trials:
            run_trial(task_of(plan, trial, 1), dataset, ArtifactStore(str(folder / "bare")))
        bare = (time.perf_counter() - start) / len(plan.trials)
    more = TRIALS[1] - TRIALS[0]
    per_trial, mirrored = (np.array(times[1]) - np.array(times[0])) / more
    print(f"  bare run_trial {bare:.4f} s; launched {per_trial:.3f} s per trial (2 at once), ", end="")
    print(
        f"{mirrored:.3f} s with MLflow's mirror; start of a Tuner {times[0][0] - TRIALS[0] * per_trial:.1f} s"
    )
