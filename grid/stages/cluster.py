"""The Ray cluster: starting or joining one, and proving that a pipeline or a grid can run on it."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import worker
from ray._private.worker import print_to_stdstream

from components.models.weights.checkpoints import WEIGHTS, weights_folder
from components.stage import ColumnStage
from grid.planning.planned import PlannedStage, PlannedTrial
from grid.spec.spec import MethodResources, Spec, StageResources
from grid.stages.address import ClusterError, knock
from grid.stages.watch import Watch
from grid.stores.home import RAY_ADDRESS, in_ray_job, joins_cluster
from grid.stores.provenance import COMMIT, ROOT, stated_commit

KEEP_WORKERS = {  # between pipelines: starting a Python with Ray in it takes longer than many a stage
    "num_workers_soft_limit": 4 + 2 * (os.cpu_count() or 1),
    "idle_worker_killing_time_threshold_ms": 600_000,
}
IO_CPUS = 0.25  # of a task that reads or writes; a pool must leave room for at least one
ALLOCATOR = {  # of workers: else glibc gives large blocks back at once, and models pay for page faults
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
BACKEND_LOG = "RAY_BACKEND_LOG_LEVEL"  # Ray's own variable
STDERR = 2  # the file, which C++ writes to
ENVIRONMENT = ("CONCEPTGRID_", "MALLOC_", "AWS_", "HF_", "OMP_")  # prefixes that workers get too


@contextmanager
def cluster(address: str | None, lost: Callable[[str], None] | None = None) -> Iterator[Mapping[str, float]]:
    """A connection to `address` (`auto`, `host:port`), else to RAY_ADDRESS or the cluster
    of the Ray job that this is, else to a new one on this machine, whatever other clusters run on it; gives
    the cluster's resources. ClusterError if there is none at the address.

    lost: called, from any thread, with the reason if the cluster goes away."""
    joins = joins_cluster(address)
    if not in_ray_job():
        address = address or os.environ.get(RAY_ADDRESS) or None
    options: dict[str, Any] = {"runtime_env": _runtime_env(joins)}
    if address is not None:
        options["address"] = knock(address)
    elif not joins:
        options |= {"address": "local", "include_dashboard": False, "num_cpus": os.cpu_count()}
        options["_system_config"] = KEEP_WORKERS
    logging.getLogger("ray").setLevel(logging.ERROR)  # what Ray has to say at INFO is in its own logs
    try:
        # processes of a new cluster would inherit the level, and write nothing to their files
        with _quietly() if joins else nullcontext():
            worker.print_to_stdstream = _show
            ray.init(logging_level="ERROR", log_to_driver=False, **options)
    except Exception as error:  # Ray raises bare ones too, as when a node takes too long to start
        what = f"no Ray cluster to join at {address}" if joins else "Ray does not start here"
        why = error.__cause__ or error  # Ray says no more than the address again
        raise ClusterError(f"{what}: {' '.join(str(why).split())}") from error
    watch = Watch(lost) if lost else None
    try:
        yield ray.cluster_resources()
    except (ConnectionError, ray.exceptions.RayError) as error:
        if lost and watch and not watch.is_in_touch():
            lost(" ".join(str(error).split()))
        raise
    finally:
        if watch and not joins:  # a new cluster goes away now, as it should
            watch.stop()
        ray.shutdown()
        if watch:
            watch.stop()


def _show(message: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray itself has to say of a cluster, without the pages of a node that ended: our watch says it."""
    if not any(line.startswith("Raylet is terminated") for line in message["lines"]):
        print_to_stdstream(message, ignore_prefix)


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray's C++ reads its level once, and says so, and what it tries; what comes of it is raised."""
    level, said = os.environ.get(BACKEND_LOG), os.dup(STDERR)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), STDERR)
    os.environ[BACKEND_LOG] = level or "fatal"
    try:
        yield
    finally:
        if level is None:
            del os.environ[BACKEND_LOG]
        os.dup2(said, STDERR)
        os.close(said)


def _runtime_env(joins: bool) -> dict[str, Any]:
    """What workers get: the commit, the allocator's settings where none are stated, this process's places,
    and, on a cluster, the repository. A Ray job has given them all but perhaps the first two, and would
    refuse a second value."""
    variables = {} if COMMIT in os.environ and in_ray_job() else {COMMIT: json.dumps(stated_commit())}
    if not any(name.startswith("MALLOC_") for name in os.environ):
        variables |= ALLOCATOR
    if in_ray_job():
        return {"env_vars": variables}
    variables |= {k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT) and k != COMMIT}
    if weights := weights_folder():  # a relative one would be another folder in a worker
        variables[WEIGHTS] = str(weights)
    return {"env_vars": variables, **({"working_dir": str(ROOT)} if joins else {})}


def replicas_for(resources: StageResources, total: Mapping[str, float]) -> tuple[int, int]:
    """The least and the most replicas: as stated, else as many as leave a CPU for reading and writing.

    Raises ClusterError for what would hang without a word: a pool that takes every CPU, GPUs that are not
    there.
    """
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    if resources.num_gpus > gpus:
        raise ClusterError(
            f"a replica needs {resources.num_gpus:g} GPU; the cluster has {gpus:g}"
            " (--set resources.stages.KIND.num_gpus=0 runs it on CPUs)"
        )
    room = int((cpus - IO_CPUS) // resources.num_cpus)
    if resources.num_gpus:
        room = min(room, _on_gpus(resources.num_gpus, gpus))
    stated = resources.replicas
    if stated is None:
        least = most = max(1, min(room, int((cpus - 1) // resources.num_cpus)))
    elif isinstance(stated, int):
        least = most = stated
    else:
        least, most = stated.min, max(min(stated.max or room, room), stated.min)
    if most > room:
        raise ClusterError(
            f"{most} replicas of {resources.num_cpus:g} CPU and {resources.num_gpus:g} GPU do not leave"
            f" {IO_CPUS:g} CPU for reading: the cluster has {cpus:g} CPU, {gpus:g} GPU;"
            " lower replicas or num_cpus of the stage in the spec's resources"
        )
    return least, most


def _on_gpus(share: float, gpus: float) -> int:
    """Replicas that fit: a fraction never spans two GPUs."""
    return int(gpus) * int(1 / share + 1e-9) if share < 1 else int(gpus // share)


def preflight(
    spec: Spec,
    stages: Sequence[PlannedStage],
    trials: Sequence[PlannedTrial],
    total: Mapping[str, float],
) -> None:
    """ClusterError if one of these stages or trials could never run on the cluster."""
    for kind, is_column in {(s.stage.kind, isinstance(s.stage, ColumnStage)) for s in stages}:
        resources = spec.resources.stage(kind)
        if is_column:
            replicas_for(resources, total)
        else:
            require_room(resources, total, f"stage {kind}")
    for method in {trial.method_name for trial in trials}:
        require_room(spec.resources.method(method), total, f"a trial of {method}")


def require_room(resources: MethodResources | StageResources, total: Mapping[str, float], what: str) -> None:
    """ClusterError if `what` asks for more than the cluster has."""
    for name, wanted in (("CPU", resources.num_cpus), ("GPU", resources.num_gpus)):
        if wanted > total.get(name, 0.0):
            raise ClusterError(f"{what} needs {wanted:g} {name}; the cluster has {total.get(name, 0.0):g}")
