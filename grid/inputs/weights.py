"""The table of weights, and whether the files that are here are the ones that were published or fetched."""

import hashlib
import re
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
    MissingWeights,
    checkpoint_files,
    find_checkpoint,
)
from grid.spec.search import candidates
from grid.spec.spec import Spec

TABLE = ROOT / "weights.yaml"
RECORD = ".sha256"


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


def expected_sums(name: str, path: Path) -> dict[Path, str]:
    """What the files of the weights called `name` should hash to: as published, else as recorded."""
    published = table()[name].sums(path) if name in table() else {}
    return {**recorded_sums(path), **published}


def problem(name: str, path: Path, found: Mapping[Path, str]) -> str:
    """What is wrong with the weights at `path` whose files hash to `found`, and the command that gets them
    anew; empty if nothing is."""
    remedy = f"{FETCH} {name} --again"
    try:
        expected = expected_sums(name, path)
    except ValueError as error:
        return f"weights {name!r}: {error}; {remedy}"
    for file, should in expected.items():
        if file not in found:
            return f"weights {name!r}: incomplete: no {file}; {remedy}"
        if not found[file].startswith(should):
            wrong = f"sha256 of {file} is {found[file]}, should be {should}"
            return f"weights {name!r}: corrupted: {wrong}; {remedy}"
    return ""


def sha256(path: Path) -> str:
    """Of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(name: str) -> str:
    """What is wrong with the weights called `name`, every byte of which is read; empty if nothing is."""
    try:
        path = find_checkpoint(name)
    except MissingWeights as error:
        return str(error)
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
        for method in candidates(spec, card).methods
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
