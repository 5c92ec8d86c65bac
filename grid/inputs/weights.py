"""The table of weights, and whether the files that are here are the ones that were published or fetched."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field

from components.data.card import load_card
from components.identity import configuration
from components.models.weights.checkpoints import (
    FETCH,
    ROOT,
    WEIGHTS,
    MissingWeights,
    checkpoint_files,
    find_checkpoint,
)
from components.models.weights.whole_files import damage
from grid.spec.candidates import candidates
from grid.spec.spec import Spec

TABLE = ROOT / "weights.yaml"
RECORD = ".sha256"
HUB_NAME = re.compile(r"\w[\w.\-]*/\w[\w.\-]*", re.ASCII)  # owner/repository
FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


class Source(BaseModel):
    """Where weights come from; weights.yaml explains the kinds. revision: of a Hub repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["url", "torchvision", "open_clip", "hub", "none"]
    address: str
    revision: str | None = None


class Weights(BaseModel):
    """One entry of the table. sha256: of the file, or by name of files in the folder; perhaps only its
    beginning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    variant: str = ""
    source: Source
    licence: str
    bytes: Annotated[int, Ge(1)] | None = None
    sha256: str | dict[str, str] = Field(default_factory=dict)

    def sums(self, path: Path) -> dict[Path, str]:
        """The published sums, by file, of these weights at `path`."""
        if isinstance(self.sha256, str):
            return {path: self.sha256}
        return {path / file: value for file, value in self.sha256.items()}


@cache
def table() -> Mapping[str, Weights]:
    """The entries of weights.yaml by name."""
    content = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: Weights(name=name, **entry) for name, entry in content.items()}


def record_of(path: Path) -> Path:
    """The file beside weights that keeps the sums of what was fetched, as `sha256sum -c` reads it."""
    return path.with_name(path.name + RECORD)


def recorded_sums(path: Path) -> dict[Path, str]:
    """The sums that were recorded when the weights at `path` were fetched; none if they were not. ValueError
    if the record was cut short or edited."""
    record = record_of(path)
    if not record.is_file():
        return {}
    lines = [line for line in record.read_text(encoding="utf-8").splitlines() if line]
    if not all(re.match(r"[0-9a-f]{64}  .", line) for line in lines):
        raise ValueError(f"{record} is no list of sha256 sums")
    return {path.parent / line[66:]: line[:64] for line in lines}


def published_sums(name: str, path: Path) -> dict[Path, str]:
    """The sums that the table of weights states for the weights called `name`; none of others."""
    return table()[name].sums(path) if name in table() else {}


def expected_sums(name: str, path: Path) -> dict[Path, str]:
    """What the files of the weights called `name` should hash to: as published, else as recorded."""
    return {**recorded_sums(path), **published_sums(name, path)}


def problem(name: str, path: Path, found: Mapping[Path, str]) -> str:
    """What is wrong with the weights at `path` whose files hash to `found`, and what mends it; empty if
    nothing is. Whole files with another sum may be somebody's own, and are told apart from damaged ones."""
    published = published_sums(name, path)
    remedy = f"{FETCH} {shlex.quote(name)} --again"
    try:
        expected = expected_sums(name, path)
    except ValueError as error:
        return f"weights {name!r}: {error}; {remedy}"
    for file, should in expected.items():
        if file not in found:
            return f"weights {name!r}: incomplete: no {file}; {remedy}"
        if found[file].startswith(should):
            continue
        wrong = f"sha256 of {file} is {found[file]}, should be {should}"
        if broken := damage(file):
            return f"weights {name!r}: corrupted ({broken}): {wrong}; {remedy}"
        other = "not the published ones" if file in published else "changed since they were fetched"
        return (
            f"weights {name!r}: {other}, though the file is whole: {wrong}; if they are your own, move them "
            f"to a name of their own and give that as `checkpoint:`; if not: {remedy}"
        )
    return ""


def missing(name: str, error: MissingWeights) -> str:
    """The line about weights that are not there, with what gets them: also such as cannot be fetched."""
    where, sets, _ = str(error).partition(f"; {FETCH}")[0].partition(f"; set {WEIGHTS}")
    entry = table().get(name)
    if entry is not None and entry.source.kind == "none":
        return f"{where}; published nowhere as a file: {' '.join(entry.source.address.split())}"
    if "not found" not in where or can_be_fetched(name):
        return str(error)
    folder = f"set {WEIGHTS} to the folder that holds it" if sets else "put it there"
    return f"{where}; {folder}, or correct `checkpoint:`"


def can_be_fetched(name: str) -> bool:
    """Whether `fetch` would know where to look: in the table, or as a repository. A file's name is none."""
    if name in table():
        return table()[name].source.kind != "none"
    return bool(HUB_NAME.fullmatch(name)) and ".." not in name and not name.endswith(FILES)


def sha256(path: Path) -> str:
    """Of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(name: str) -> str:
    """What is wrong with the weights called `name`, every byte of which is read; empty if nothing is."""
    try:
        path = find_checkpoint(name)
    except MissingWeights as error:
        return missing(name, error)
    return problem(name, path, {file: sha256(file) for file in checkpoint_files(path)})


def here(name: str) -> Path | None:
    """Where the weights called `name` lie, or None."""
    try:
        return find_checkpoint(name)
    except MissingWeights:
        return None


def fetched(folder: Path) -> Iterator[str]:
    """Names of the weights below `folder` that were recorded when they were fetched."""
    for record in sorted(folder.rglob(f"*{RECORD}")):
        yield record.relative_to(folder).as_posix().removesuffix(RECORD)


def names_in(spec: Spec) -> list[str]:
    """The checkpoints that the stages and the trials of a spec read, each once, in order."""
    cards = [load_card(entry.name) for entry in spec.datasets]
    found = [
        name
        for card in cards
        for method in (one.method for one in candidates(spec, card).distinct)
        for model in (*method.stages(card, spec.seeds[0]).values(), *method.models(card).values())
        for name in _checkpoints(configuration(model))
    ]
    return list(dict.fromkeys(found))


def _checkpoints(value: Any) -> Iterator[str]:
    """Every `checkpoint` of a configuration, however deep."""
    children: Iterable[Any] = ()
    if isinstance(value, Mapping):
        children = value.values()
        if isinstance(value.get("checkpoint"), str):
            yield value["checkpoint"]
    elif isinstance(value, list):
        children = value
    for child in children:
        yield from _checkpoints(child)
