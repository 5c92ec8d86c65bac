"""`python -m grid doctor`: whether a spec can run here, checked before anything is paid for."""

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from components.checkpoints import ROOT, WEIGHTS
from grid.home import HOME, in_ray_job
from grid.plan import Plan
from grid.world import World

FREE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it is well, and what was seen or what to do."""

    check: str
    ok: bool
    detail: str


def findings(plan: Plan, world: World) -> Iterator[Finding]:
    """All checks of a plan in its world. Nothing is run and no model is loaded."""
    yield Finding("results store", True, world.results.url)
    yield Finding("artifact store", True, world.store.storage.uri)
    yield from _data(plan)
    yield from _weights(plan)
    yield _versions()
    yield _shadow()
    yield _home()
    yield _disk()
    yield _ray_auth()


def _data(plan: Plan) -> Iterator[Finding]:
    for dataset in plan.datasets:
        if dataset.index is None:
            drawn = "drawn when the grid runs" in dataset.missing
            yield Finding(f"data set {dataset.name}", drawn, dataset.missing)
        else:
            detail = f"{len(dataset.index)} images, fingerprint {dataset.fingerprint}"
            yield Finding(f"data set {dataset.name}", True, detail)


def _weights(plan: Plan) -> Iterator[Finding]:
    missing = [name for name in plan.unresolved if name.startswith("weights")]
    if not missing:
        yield Finding("weights", True, "all found")
    for name in missing:
        yield Finding(name, False, f"not found; set {WEIGHTS} to their folder")


def _versions() -> Finding:
    """Installed versions against constraints.txt, for the packages that requirements.txt names."""
    pins = dict(re.findall(r"^([\w.\-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = re.findall(r"^([\w\-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    others = [
        f"{name} {found} (pinned {pins[name]})"
        for name in wanted
        if name in pins and (found := _installed(name)) != pins[name]
    ]
    return Finding("package versions", not others, ", ".join(others) or "as pinned")


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
    home = os.environ.get(HOME, "")
    if in_ray_job() and not os.path.isabs(home):
        return Finding(HOME, False, "a Ray job needs an absolute home")
    return Finding(HOME, True, home or "not set: ./runs")


def _disk() -> Finding:
    free = shutil.disk_usage(ROOT).free
    return Finding("disk", free > FREE_BYTES, f"{free / 2**30:.0f} GiB free")


def _ray_auth() -> Finding:
    """Ray's processes must agree on one mode; a plain `ray start` and a plain driver may not."""
    mode = os.environ.get("RAY_AUTH_MODE")
    detail = (
        f"RAY_AUTH_MODE={mode}" if mode else "RAY_AUTH_MODE not set: on a cluster, set the same everywhere"
    )
    return Finding("Ray authentication", True, detail)
