"""`python -m grid doctor`: what a spec needs, what of it is missing here, and what to do about each."""

import importlib.metadata
import os
import platform
import re
import shutil
import urllib.request
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from components.data.card import load_card
from components.data.fingerprint import FileHashes
from components.data.images import stored_in
from components.data.written import one_line
from components.models.weights.checkpoints import FETCH, ROOT, weights_folder
from grid.free_text import redacted
from grid.inputs.datasets import Dataset, locate, read
from grid.planning.plan import Plan, make_plan
from grid.progress import Display
from grid.results.store import ResultsStore, ResultsUnreachable
from grid.results.throughput import Throughput
from grid.spec.drawings import drawings
from grid.spec.spec import DatasetEntry, Spec, SpecError
from grid.stores.artifacts import ArtifactStore
from grid.stores.home import (
    DATA,
    HOME,
    RAY_ADDRESS,
    RESULTS_URL,
    STORAGE,
    TRACKING_URI,
    HomeError,
    data_folder,
    home,
    in_ray_job,
    joins_cluster,
    refuse_throw_away_places,
    results_url,
    storage_uri,
    tracking_uri,
)
from grid.stores.storage import FILE, Storage, StorageError
from grid.stores.world import probe_writable

FREE_BYTES = 2 * 2**30
EVERYWHERE = " (on every machine of the cluster under the same path)"
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

    @property
    def joins(self) -> bool:
        """As `joins_cluster`."""
        return joins_cluster(self.address)

    @property
    def folder(self) -> Path | None:
        """The artifact store's, where it is one."""
        uri = Storage(storage_uri(self.storage)).uri
        return Path(unquote(uri.removeprefix(FILE))) if uri.startswith(FILE) else None


def findings(spec: Spec, places: Places) -> Iterator[Finding]:
    """All checks of a spec. No model is loaded and nothing is run. SpecError if the spec itself is wrong."""
    hashes = FileHashes(home() / "file_hashes.json")
    with Display(stderr=True) as display:
        entries = drawings(spec)
        datasets = [_dataset(entry, hashes, display) for entry in entries]
    plan = make_plan(spec, datasets, hashes, lambda key: False, lambda ids: {}, Throughput(), ())
    yield _python()
    yield _versions()
    everywhere = EVERYWHERE if places.joins else ""
    names = [entry.name for entry in spec.datasets]
    for entry, dataset in zip(entries, datasets, strict=True):
        yield _data(dataset, entry.root, names.index(entry.name), everywhere)
    yield from _named(plan, "weights", "all found, none corrupted", everywhere)
    yield from _named(plan, "vocabulary", "all found")
    yield from _machines(plan, places)
    yield from _shared(datasets, places)
    yield _results(places)
    yield _storage(places)
    yield _tracking()
    yield _shadow()
    yield _home()
    yield from _disks(places)
    yield _ray_auth()


def fetchable(found: Iterable[Finding]) -> list[str]:
    """The weights that findings say to fetch, as a shell takes their names; none that is to be replaced."""
    fetches = (re.search(rf"{FETCH} (\S+)(?P<again> --again)?", finding.fix) for finding in found)
    return [fetch[1] for fetch in fetches if fetch and not fetch["again"]]


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


def _data(dataset: Dataset, stated: str | None, position: int, everywhere: str) -> Finding:
    """stated: the `root` of the spec, which goes before all others."""
    check, card = f"data set {dataset.name}", dataset.card
    fix = (
        f"get it: {' '.join(card.source.split())}. Licence: {' '.join(card.licence.split())}. It must lie in "
    )
    other = f"the FOLDER that --set datasets.{position}.root=FOLDER says{everywhere}"
    if dataset.index is None:
        if "drawn when the grid runs" in dataset.missing:
            return Finding(check, True, dataset.missing)
        is_there = dataset.root is not None and dataset.root.is_dir()  # then the line says what to do
        where = stated or f"{DATA}/{card.name}{'' if data_folder() else f' ({DATA} is not set)'}"
        detail = dataset.missing.removeprefix(f"{check}: ")
        return Finding(check, False, detail, "" if is_there else f"{fix}{where}, or in {other}")
    index = dataset.index
    files = {stored_in(index.path(row))[0] for row in range(len(index))}
    absent = [file for file in files if not os.path.isfile(file)]
    if absent:
        first = one_line(str(min(absent).relative_to(index.root)))
        detail = f"{len(absent)} of {len(files)} image files are not in {index.root}, such as {first}"
        return Finding(check, False, detail, f"{fix}{index.root}, or in {other}")
    found = f"{len(index)} images in {index.root}, fingerprint {dataset.fingerprint}"
    return Finding(check, True, "; left out: ".join([found, *dataset.left_out]))


def _named(plan: Plan, noun: str, well: str, everywhere: str = "") -> Iterator[Finding]:
    """What of the plan is unresolved and begins with `noun`: `noun name: detail; what mends it`."""
    missing = [name for name in plan.unresolved if name.startswith(noun)]
    if not missing:
        yield Finding(noun, True, well)
    for name in missing:
        check, _, rest = name.partition(": ")
        detail, _, fix = rest.partition("; ")
        yield Finding(check, False, detail, f"{fix}{everywhere}")


def _machines(plan: Plan, places: Places) -> Iterator[Finding]:
    """Whether GPUs and CPUs suffice: of the cluster that the run would join, else of this machine."""
    from grid.stages.address import ClusterError
    from grid.stages.cluster import cluster

    if not places.joins:
        import torch

        total = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
        yield from _room(plan, total, "this machine")
        return
    address = places.address or os.environ.get(RAY_ADDRESS, "")
    check = f"Ray cluster {address}".rstrip()
    try:
        with cluster(places.address) as resources:
            total = dict(resources)
    except ClusterError as error:
        key = "--address" if places.address else RAY_ADDRESS
        fix = f"set {key} to the address of a running cluster (`ray status` there), or drop it: then the run "
        yield Finding(check, False, str(error).splitlines()[0], f"{fix}starts its own here")
        return
    yield Finding(check, True, f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs")
    yield from _room(plan, total, "the cluster")


def _shared(datasets: Sequence[Dataset], places: Places) -> Iterator[Finding]:
    """What the machines of a cluster must see as this one does; from here nobody knows whether they do."""
    if not places.joins:
        return
    roots = [dataset.root for dataset in datasets]
    folders = dict.fromkeys(str(path) for path in (*roots, weights_folder(), places.folder) if path)
    yield Finding(
        "every machine of the cluster", True, f"must see, under the same path: {', '.join(folders)}"
    )


def _room(plan: Plan, total: Mapping[str, float], where: str) -> Iterator[Finding]:
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
    cpus = total.get("CPU", 0.0)
    problems = list(_without_room(plan, spec, total))
    if not problems:
        yield Finding("CPUs", True, f"{where} has {cpus:g}")
    for problem, key in dict.fromkeys(problems):
        fewer = f"--set {key}.num_cpus={1 if cpus >= 2 else 0.5}"
        replicas = f" --set {key}.replicas=null" if key.startswith("resources.stages.") else ""
        yield Finding("CPUs", False, problem, f"take less: {fewer}{replicas}")


def _without_room(plan: Plan, spec: Spec, total: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Of the stages and trials that could never run, why, and the spec's key of what they take."""
    from grid.stages.address import ClusterError
    from grid.stages.cluster import preflight

    stages = {stage.stage.kind: stage for stage in plan.stages.values()}
    trials = {trial.method_name: trial for trial in plan.trials}
    for kind, stage in stages.items():
        try:
            preflight(spec, [stage], [], total)
        except ClusterError as error:
            yield str(error), _key("stages", spec.resources.stages, kind)
    for name, trial in trials.items():
        try:
            preflight(spec, [], [trial], total)
        except ClusterError as error:
            yield str(error), _key("methods", spec.resources.methods, name)


def _key(sort: str, stated: Container[str], name: str) -> str:
    """The spec's key of what a stage kind or a method takes."""
    return f"resources.{sort}.{'default' if name not in stated and 'default' in stated else name}"


def _without_gpus(spec: Spec) -> Spec:
    content = spec.model_dump()
    for resources in (*content["resources"]["stages"].values(), *content["resources"]["methods"].values()):
        resources["num_gpus"] = 0.0
    return Spec.model_validate(content)


def _gpus(plan: Plan) -> dict[str, float]:
    """GPUs of a replica, by the spec's key that asks for them."""
    resources, asked = plan.spec.resources, {}
    for kind in dict.fromkeys(stage.stage.kind for stage in plan.stages.values()):
        asked[_key("stages", resources.stages, kind)] = resources.stage(kind).num_gpus
    for name in dict.fromkeys(trial.method_name for trial in plan.trials):
        asked[_key("methods", resources.methods, name)] = resources.method(name).num_gpus
    return {key: gpus for key, gpus in asked.items() if gpus}


def _results(places: Places) -> Finding:
    def opened() -> str:
        url = results_url(places.results)
        refuse_throw_away_places(url, storage_uri(places.storage))
        store = ResultsStore.open(url)
        store.close()
        return store.url

    given = places.results or os.environ.get(RESULTS_URL, "")
    start = "" if given.startswith("sqlite:") or not given else "start the database server, or "
    change = _change("--results", places.results, RESULTS_URL, "a database or file", "a SQLite file")
    return _tried("results store", opened, f"{start}{change}")


def _storage(places: Places) -> Finding:
    def opened() -> str:
        store = ArtifactStore(storage_uri(places.storage))
        probe_writable(store)
        return store.storage.uri

    change = _change("--storage", places.storage, STORAGE, "a folder or bucket", "`artifacts`")
    return _tried("artifact store", opened, change)


def _tracking() -> Finding:
    def reached() -> str:
        uri = tracking_uri()
        if uri.startswith(("http://", "https://")):
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
                pass
        return redacted(uri)

    is_server = os.environ.get(TRACKING_URI, "").startswith(("http://", "https://"))
    start = "start it (`mlflow server`), or " if is_server else ""
    return _tried("MLflow", reached, f"{start}unset {TRACKING_URI}: then it is a file in {HOME}")


def _change(option: str, given: str | None, variable: str, what: str, by_default: str) -> str:
    """What to set to have a place that can be written: of the option, the variable and the home the one that
    says now where it is."""
    writable = f"{what} that can be written"
    if given is not None:
        without = f"without it {variable} says, else it is {by_default} in {HOME}"
        return f"give {option} {writable} ({without})"
    if os.environ.get(variable):
        return f"set {variable} to {writable} (unset, it is {by_default} in {HOME})"
    return f"set {HOME} to a folder that can be written"


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
    detail = ", ".join(python) or "so Hugging Face's stays importable"
    return Finding(
        "datasets/ holds no Python", not python, detail, "move these files out of it" * bool(python)
    )


def _home() -> Finding:
    given = os.environ.get(HOME, "")
    if in_ray_job() and not os.path.isabs(given):
        return Finding(HOME, False, "a Ray job needs an absolute home", f"set {HOME} to an absolute path")
    return Finding(HOME, True, given or "not set: ./runs")


def _disks(places: Places) -> Iterator[Finding]:
    """Of the home, and of the artifact store where that is on another disk."""
    wanted = {home(): HOME}
    if places.folder is not None:
        wanted.setdefault(places.folder, "--storage" if places.storage else STORAGE)
    seen = set()
    for folder, key in wanted.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        free = shutil.disk_usage(there).free
        fix = "" if free > FREE_BYTES else f"make room, or set {key} to a folder on another disk"
        yield Finding("disk", free > FREE_BYTES, f"{free / 2**30:.0f} GiB free at {there}", fix)


def _ray_auth() -> Finding:
    """Ray's processes must agree on one mode; a plain `ray start` and a plain driver may not."""
    mode = os.environ.get("RAY_AUTH_MODE")
    detail = (
        f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE not set: on a cluster, set the same everywhere"
    )
    return Finding("Ray authentication", True, detail)
