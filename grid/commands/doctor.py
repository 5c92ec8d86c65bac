"""`python -m grid doctor`: what a spec needs, what of it is missing here, and what to do about each."""

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from components.data.images import stored_in
from components.models.weights.checkpoints import ROOT
from grid.free_text import redacted
from grid.inputs.datasets import Dataset, locate, read
from grid.planning.plan import Plan, make_plan
from grid.progress import Display
from grid.results.store import ResultsStore, ResultsUnreachable
from grid.spec.spec import DatasetEntry, Spec, SpecError
from grid.stores.artifacts import ArtifactStore
from grid.stores.home import (
    DATA,
    HOME,
    RESULTS_URL,
    STORAGE,
    TRACKING_URI,
    HomeError,
    home,
    in_ray_job,
    refuse_throw_away_places,
    results_url,
    storage_uri,
    tracking_uri,
)
from grid.stores.storage import StorageError
from grid.stores.world import probe_writable

FREE_BYTES = 2 * 2**30
ANSWER_SECONDS = 5.0  # for a service to answer


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well, what was seen, and the command or action that mends it."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Places:
    """Where the run would be: as its command line says, None for the environment's or this machine."""

    results: str | None = None
    storage: str | None = None
    address: str | None = None


def findings(spec: Spec, places: Places) -> Iterator[Finding]:
    """All checks of a spec. No model is loaded and nothing is run. SpecError if the spec itself is wrong."""
    hashes = FileHashes(home() / "file_hashes.json")
    with Display(stderr=True) as display:
        datasets = [_dataset(entry, hashes, display) for entry in spec.datasets]
    plan = make_plan(spec, datasets, hashes, lambda key: False, lambda ids: {}, {}, ())
    yield _python()
    yield _versions()
    for position, dataset in enumerate(datasets):
        yield _data(dataset, position)
    yield from _named(plan, "weights", "all found, none corrupted")
    yield from _named(plan, "vocabulary", "all found")
    yield from _machines(plan, places.address)
    yield _results(places)
    yield _storage(places)
    yield _tracking()
    yield _shadow()
    yield _home()
    yield _disk()
    yield _ray_auth()


def _dataset(entry: DatasetEntry, hashes: FileHashes, display: Display) -> Dataset:
    """The data set; what is wrong with it counts as missing."""
    card, root = load_card(entry.name), None
    try:
        source = locate(entry)
        root = source.root
        return read(source, hashes, display)
    except SpecError as error:
        return Dataset(card, root, None, None, str(error))


def _python() -> Finding:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "no CUDA device"
    return Finding("Python", True, f"{platform.python_version()}, torch {torch.__version__}, {cuda}")


def _data(dataset: Dataset, position: int) -> Finding:
    check, card = f"data set {dataset.name}", dataset.card
    fix = (
        f"get it: {' '.join(card.source.split())}. Licence: {' '.join(card.licence.split())}. It must lie in "
        f"{DATA}/{card.name}, or in the FOLDER that --set datasets.{position}.root=FOLDER says"
    )
    if dataset.index is None:
        if "drawn when the grid runs" in dataset.missing:
            return Finding(check, True, dataset.missing)
        is_there = dataset.root is not None and dataset.root.is_dir()  # then the line says what to do
        return Finding(check, False, dataset.missing.removeprefix(f"{check}: "), "" if is_there else fix)
    index = dataset.index
    files = {stored_in(index.path(row))[0] for row in range(len(index))}
    absent = sum(not file.is_file() for file in files)
    if absent:
        return Finding(check, False, f"{absent} of {len(files)} image files are not in {index.root}", fix)
    found = f"{len(index)} images in {index.root}, fingerprint {dataset.fingerprint}"
    return Finding(check, True, "; left out: ".join([found, *dataset.left_out]))


def _named(plan: Plan, noun: str, well: str) -> Iterator[Finding]:
    """What of the plan is unresolved and begins with `noun`: `noun name: detail; what mends it`."""
    missing = [name for name in plan.unresolved if name.startswith(noun)]
    if not missing:
        yield Finding(noun, True, well)
    for name in missing:
        check, _, rest = name.partition(": ")
        detail, _, fix = rest.rpartition("; ")
        yield Finding(check, False, detail or rest, fix if detail else "")


def _machines(plan: Plan, address: str | None) -> Iterator[Finding]:
    """Whether GPUs and CPUs suffice: of the cluster that the run would join, else of this machine."""
    from grid.stages.cluster import ClusterError, cluster

    if address is None and not in_ray_job():
        import torch

        total = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
        yield from _room(plan, total, "this machine")
        return
    check = f"Ray cluster {address or ''}".rstrip()
    try:
        _reach(address or "")
        with cluster(address) as resources:
            total = dict(resources)
    except (ClusterError, OSError, ValueError) as error:
        fix = "give the address of a running cluster (`ray status` there), or none for this machine alone"
        yield Finding(check, False, str(error).splitlines()[0], fix)
        return
    yield Finding(check, True, f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs")
    yield from _room(plan, total, "the cluster")


def _reach(address: str) -> None:
    """OSError if nothing listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()


def _room(plan: Plan, total: Mapping[str, float], where: str) -> Iterator[Finding]:
    from grid.stages.cluster import ClusterError, preflight

    asked, there = _gpus(plan), total.get("GPU", 0.0)
    most, spec = max(asked.values(), default=0.0), plan.spec
    if not asked:
        yield Finding("GPUs", True, "the spec asks for none")
    elif most <= there:
        yield Finding("GPUs", True, f"{where} has {there:g}, a replica takes at most {most:g}")
    else:
        spec = _without_gpus(spec)
        on_cpu = " ".join(f"--set {key}.num_gpus=0" for key in asked)
        fix = f"run it on a cluster that has them (--address), or, far slower, on the CPU: {on_cpu}"
        yield Finding("GPUs", False, f"a replica asks for {most:g}, {where} has {there:g}", fix)
    try:
        preflight(spec, list(plan.stages.values()), plan.trials, total)
        yield Finding("CPUs", True, f"{where} has {total.get('CPU', 0.0):g}")
    except ClusterError as error:
        yield Finding("CPUs", False, str(error), "lower replicas or num_cpus: --set resources.stages.KIND…")


def _without_gpus(spec: Spec) -> Spec:
    content = spec.model_dump()
    for resources in (*content["resources"]["stages"].values(), *content["resources"]["methods"].values()):
        resources["num_gpus"] = 0.0
    return Spec.model_validate(content)


def _gpus(plan: Plan) -> dict[str, float]:
    """GPUs of a replica, by the spec's key that asks for them."""
    resources, asked = plan.spec.resources, {}
    for kind in dict.fromkeys(stage.stage.kind for stage in plan.stages.values()):
        key = kind if kind in resources.stages else "default"
        asked[f"resources.stages.{key}"] = resources.stage(kind).num_gpus
    for name in dict.fromkeys(trial.method_name for trial in plan.trials):
        key = name if name in resources.methods else "default"
        asked[f"resources.methods.{key}"] = resources.method(name).num_gpus
    return {key: gpus for key, gpus in asked.items() if gpus}


def _results(places: Places) -> Finding:
    url = results_url(places.results)

    def opened() -> str:
        refuse_throw_away_places(url, storage_uri(places.storage))
        store = ResultsStore.open(url)
        store.close()
        return store.url

    fix = f"start the database server, or set {RESULTS_URL} (unset, it is a SQLite file in {HOME})"
    return _tried("results store", opened, fix)


def _storage(places: Places) -> Finding:
    def opened() -> str:
        store = ArtifactStore(storage_uri(places.storage))
        probe_writable(store)
        return store.storage.uri

    fix = f"set {STORAGE} to a folder or bucket that can be written (unset, it is `artifacts` in {HOME})"
    return _tried("artifact store", opened, fix)


def _tracking() -> Finding:
    uri = tracking_uri()

    def reached() -> str:
        if uri.startswith(("http://", "https://")):
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
                pass
        return redacted(uri)

    fix = f"start it (`mlflow server`), or unset {TRACKING_URI}: then it is a file in {HOME}"
    return _tried("MLflow", reached, fix)


def _tried(check: str, attempt: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(check, True, attempt())
    except (HomeError, ResultsUnreachable, StorageError, OSError, ValueError, ImportError) as error:
        return Finding(check, False, redacted(" ".join(str(error).split())), fix)


def _versions() -> Finding:
    """Installed versions against constraints.txt, for the packages that requirements.txt names."""
    pins = dict(re.findall(r"^([\w.\-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = re.findall(r"^([\w\-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    others = [
        f"{name} {found} (pinned {pins[name]})"
        for name in wanted
        if name in pins and (found := _installed(name)) != pins[name]
    ]
    fix = "python -m pip install -r requirements.txt -c constraints.txt" if others else ""
    return Finding("package versions", not others, ", ".join(others) or "as pinned", fix)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _shadow() -> Finding:
    """`datasets/` must not become a package that hides Hugging Face's."""
    python = sorted(path.name for path in (ROOT / "datasets").rglob("*.py"))
    return Finding(
        "datasets/ holds no Python", not python, ", ".join(python) or "so Hugging Face's stays importable"
    )


def _home() -> Finding:
    given = os.environ.get(HOME, "")
    if in_ray_job() and not os.path.isabs(given):
        return Finding(HOME, False, "a Ray job needs an absolute home", f"set {HOME} to an absolute path")
    return Finding(HOME, True, given or "not set: ./runs")


def _disk() -> Finding:
    free = shutil.disk_usage(ROOT).free
    fix = "" if free > FREE_BYTES else "make room, or set the places above to another disk"
    return Finding("disk", free > FREE_BYTES, f"{free / 2**30:.0f} GiB free", fix)


def _ray_auth() -> Finding:
    """Ray's processes must agree on one mode; a plain `ray start` and a plain driver may not."""
    mode = os.environ.get("RAY_AUTH_MODE")
    detail = (
        f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE not set: on a cluster, set the same everywhere"
    )
    return Finding("Ray authentication", True, detail)
