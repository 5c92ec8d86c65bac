"""Experiment specs: YAML, validated before anything starts."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, ValidationError, field_validator, model_validator

from components.data.written import TextError, parse_yaml, read_yaml, unknown
from components.method import Method
from components.stage import Stage
from grid.names import names
from grid.spec.search import Search, Select
from grid.spec.strict import Strict

LARGEST = 2**63 - 1  # what a whole number of the results store can be


class SpecError(ValueError):
    """A spec is wrong; the message is one line that names the key, the value and what is allowed."""


class DatasetEntry(Strict):
    """A data set by its card's name. root: where it lies, before CONCEPTGRID_DATA and the card's own root;
    images_per_split: at most so many of each split; generator: knobs of the card's generator, in which a list
    is a choice, and each combination a data set of its own."""

    name: str
    root: str | None = None
    images_per_split: Annotated[int, Ge(1)] | None = None
    generator: dict[str, Any] | list[dict[str, Any]] = Field(default_factory=dict)


class Replicas(Strict):
    """A pool that Ray grows and shrinks with the load: at most `max` (None: no limit of its own), and never
    more than the cluster has room for."""

    min: Annotated[int, Ge(1)] = 1
    max: Annotated[int, Ge(1)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"replicas: max = {self.max} is below min = {self.min}")
        return self


class MethodResources(Strict):
    """What one trial of a method takes."""

    num_cpus: Annotated[float, Gt(0)] = 1.0
    num_gpus: Annotated[float, Ge(0)] = 0.0

    @property
    def device(self) -> str:
        """Where its model runs, as torch calls it."""
        return "cuda" if self.num_gpus else "cpu"


class StageResources(MethodResources):
    """What one replica of a stage takes. replicas None: as many as the cluster has room for; num_gpus: a
    fraction, for several replicas on one GPU, or a whole number; batch_size None: the stage's own."""

    replicas: Annotated[int, Ge(1)] | Replicas | None = None
    batch_size: Annotated[int, Ge(1)] | None = None

    @field_validator("num_gpus")
    @classmethod
    def _whole_or_fraction(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError(f"num_gpus = {value:g}: a fraction below 1 or a whole number")
        return value


class Resources(Strict):
    """Per stage kind and per method; `default` where a name is not given."""

    stages: dict[str, StageResources] = Field(default_factory=dict)
    methods: dict[str, MethodResources] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named(self) -> "Resources":
        for key, given, folders in (
            ("stages", self.stages, Stage.FOLDERS),
            ("methods", self.methods, (Method.FOLDER,)),
        ):
            known = [*names(*folders), "default"]
            for name in given:
                if name not in known:
                    raise ValueError(unknown(name, known, f"resources.{key} key"))
        return self

    def stage(self, kind: str) -> StageResources:
        """Of this stage kind."""
        return self.stages.get(kind, self.stages.get("default", StageResources()))

    def method(self, name: str) -> MethodResources:
        """Of this method."""
        return self.methods.get(name, self.methods.get("default", MethodResources()))


UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}  # how pydantic calls a key that does not exist
BRANCH = re.compile(r"constrained-int|function-after\[.*\]")  # and a branch of a union, within a place


class Spec(Strict):
    """One experiment: data sets x methods x search space x seeds, and what it may use.

    methods: each a mapping with `method:` and any of its knobs; a list is a choice, and
    `{low:, high:, log:}` a range (random and Optuna search only).
    select: the protocol by which its results are chosen; None: as the commands of the analysis do by default.
    max_failed_fraction: of a stage's images, past which the stage fails.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")]
    question: str = ""
    baseline: str = ""
    cost: str = ""
    expected: str = ""
    source: str = ""
    datasets: Annotated[list[DatasetEntry], MinLen(1)]
    seeds: Annotated[list[Annotated[int, Ge(0), Le(LARGEST)]], MinLen(1)] = Field(default=[0])
    methods: Annotated[list[dict[str, Any]], MinLen(1)]
    search: Search = Search()
    select: Select | None = None
    resources: Resources = Resources()
    max_failed_fraction: Annotated[float, Ge(0), Le(1)] = 0.05
    on_failed: Literal["wrong", "drop"] = "wrong"


def load_spec(path: Path, overrides: tuple[str, ...] = ()) -> Spec:
    """The spec in this file with `key=value` overrides; SpecError in one line if anything is wrong.

    A key is dotted (`search.trials`, `datasets.0.root`), a value is YAML.
    """
    if not path.is_file():
        raise SpecError(f"no spec {path}")
    try:
        content = read_yaml(path)
    except TextError as error:
        raise SpecError(str(error)) from error
    if not isinstance(content, dict):
        raise SpecError(f"{path}: a spec is a mapping that starts with `name:`")
    content["datasets"] = _entries(content.get("datasets"))
    for override in overrides:
        _override(content, override)
    return parse_spec(content, str(path))


def parse_spec(content: dict[str, Any], origin: str) -> Spec:
    """The spec of a mapping; `origin` is named in errors."""
    content = {**content, "datasets": _entries(content.get("datasets"))}
    try:
        spec = Spec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{origin}: {explain(error, Spec)}") from error
    if (spec.search.kind == "grid") != (spec.search.trials is None):
        raise SpecError(f"{origin}: search.trials is needed by random and optuna, and by no grid")
    given = [entry.name for entry in spec.datasets]
    _refuse_twice(f"{origin}: datasets has a name twice", given)
    _refuse_twice(f"{origin}: seeds has a value twice", spec.seeds)
    return spec


def _refuse_twice(problem: str, values: Sequence[str] | Sequence[int]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise SpecError(f"{problem}: {value!r}")


def _entries(datasets: Any) -> Any:
    """A data set may be given by its name alone."""
    if not isinstance(datasets, list):
        return datasets
    return [{"name": entry} if isinstance(entry, str) else entry for entry in datasets]


def explain(error: ValidationError, model: type[Any]) -> str:
    """The first problem of a validation as one line: key, value, what is allowed, the closest known key."""
    found = error.errors()
    first = next((one for one in found if one["type"] in UNKNOWN), found[0])
    place = _place(first["loc"])
    location = ".".join(str(part) for part in place)
    if first["type"] in UNKNOWN:
        return unknown(location, _known_keys(model, place), "key")
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] in {"missing", "missing_argument"}:
        return f"{location} is missing"
    return f"{location} = {first['input']!r}: {first['msg'].lower()}"


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The keys alone."""
    return tuple(part for part in location if not BRANCH.fullmatch(str(part)))


def _known_keys(model: type[Any], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the last part of `location`, as full dotted names."""
    prefix = ".".join(str(part) for part in location[:-1])
    for part in location[:-1]:
        model = _inner(model, part)
    fields = getattr(model, "model_fields", None) or getattr(model, "__dataclass_fields__", {})
    return [f"{prefix}.{name}" if prefix else name for name in fields]


def _inner(model: type[Any], part: int | str) -> type[Any]:
    """The model below `part`: of a field, or the element of a list or mapping."""
    fields = getattr(model, "model_fields", {})
    annotation: Any = fields[part].annotation if part in fields else model
    return next(_models(annotation), object)


def _models(annotation: Any) -> Iterator[type[Any]]:
    """The models in an annotation."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise SpecError(f"--set {override!r}: expected key=value")
    try:
        value = parse_yaml(text, f"--set {override!r}")
    except TextError as error:
        raise SpecError(str(error)) from error
    *parents, last = key.split(".")
    place: Any = content
    try:
        for part in parents:
            place = place[_position(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[_position(last) if isinstance(place, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise SpecError(f"--set {override!r}: the spec has no such place") from error


def _position(part: str) -> int:
    """Of an item in a list, from 0; ValueError for anything else, as `-1`."""
    if not part.isdecimal():
        raise ValueError(part)
    return int(part)
