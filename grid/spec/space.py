"""Search spaces: a method's block of a spec as configurations, and configurations as method objects."""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from components.method import Method
from grid.names import UnknownName, component_class, unknown
from grid.spec.spec import SpecError, explain

METHOD = "method"
Configuration = dict[str, Any]


@dataclass(frozen=True)
class Range:
    """A continuous (or integer) range of one hyperparameter, both ends allowed."""

    low: float
    high: float
    log: bool
    integer: bool

    def sample(self, stream: np.random.Generator) -> float | int:
        """A value drawn evenly, on the log scale if `log`."""
        if self.log:
            value = math.exp(stream.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = stream.uniform(self.low, self.high + (1 if self.integer else 0))
        return min(int(value), int(self.high)) if self.integer else value


@dataclass(frozen=True)
class Space:
    """One block: a method, its fixed knobs, its choices (finite lists) and its ranges."""

    position: int
    method: str
    fixed: Configuration
    choices: dict[str, list[Any]]
    ranges: dict[str, Range]

    @property
    def where(self) -> str:
        """How errors call this block."""
        return f"methods.{self.position}"

    def grid(self) -> Iterator[Configuration]:
        """Every combination of the choices, with the fixed knobs."""
        for values in itertools.product(*self.choices.values()):
            yield {**self.fixed, **dict(zip(self.choices, values, strict=True))}

    def first(self) -> Configuration:
        """The first of each choice, the low end of each range."""
        return next(self.grid()) | {name: ends.low for name, ends in self.ranges.items()}

    def sample(self, stream: np.random.Generator) -> Configuration:
        """One configuration at random."""
        chosen = {name: values[stream.integers(len(values))] for name, values in self.choices.items()}
        return {**self.fixed, **chosen, **{n: r.sample(stream) for n, r in self.ranges.items()}}

    def build(self, configuration: Configuration) -> Method:
        """The method object; SpecError in one line if a value is not allowed."""
        method: Method = build(component_class(Method.FOLDER, self.method), configuration, self.where)
        return method


def parse_space(block: Mapping[str, Any], position: int) -> Space:
    """The space of `methods[position]`; SpecError for an unknown method, key, value or range."""
    where = f"methods.{position}"
    if METHOD not in block:
        raise SpecError(f"{where}.method is missing")
    try:
        method = component_class(Method.FOLDER, str(block[METHOD]))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error
    fields = {field.name for field in dataclasses.fields(method)}
    for key in block:
        if key != METHOD and key not in fields:
            raise SpecError(f"{where}: {unknown(key, fields, f'key of {block[METHOD]}')}")
    hints = typing.get_type_hints(method)
    space = Space(position, str(block[METHOD]), {}, {}, {})
    for key, value in block.items():
        if key == METHOD:
            continue
        if isinstance(value, list):
            if not value:
                raise SpecError(f"{where}.{key} is an empty list: give at least one choice")
            space.choices[key] = value
        elif isinstance(value, Mapping) and "low" in value and "high" in value:
            space.ranges[key] = _range(value, hints[key], f"{where}.{key}")
        else:
            space.fixed[key] = value
    _validate(space)
    return space


def _range(value: Mapping[str, Any], hint: Any, where: str) -> Range:
    extra = set(value) - {"low", "high", "log"}
    numbers = all(isinstance(value[end], int | float) for end in ("low", "high"))
    log = bool(value.get("log", False))
    if extra or not numbers or value["low"] >= value["high"] or (log and value["low"] <= 0):
        raise SpecError(f"{where} = {dict(value)!r}: a range is low < high, and log needs low > 0")
    return Range(value["low"], value["high"], log, integer=hint is int)


def _validate(space: Space) -> None:
    """Builds the method once for every single choice and end of a range."""
    first = space.first()
    space.build(first)
    for name, values in space.choices.items():
        for value in values[1:]:
            space.build({**first, name: value})
    for name, ends in space.ranges.items():
        space.build({**first, name: ends.high})


def build(cls: type[Any], configuration: Mapping[str, Any], where: str) -> Any:
    """An object of a component dataclass from plain values; nested components by their `name`."""
    hints = typing.get_type_hints(cls)
    values = {
        key: _nested(hints[key], value, f"{where}.{key}") if key in hints else value
        for key, value in configuration.items()
    }
    try:
        return TypeAdapter(cls).validate_python(values, strict=False)
    except ValidationError as error:
        raise SpecError(f"{where}.{explain(error, cls)}") from error


def _nested(hint: Any, value: Any, where: str) -> Any:
    """The object that a plain value stands for, where the field holds a component; else the value."""
    base = _component_type(hint)
    if base is None or value is None:
        return value
    knobs = {"name": value} if isinstance(value, str) else value
    if not isinstance(knobs, Mapping):
        raise SpecError(f"{where} = {value!r}: expected a mapping of knobs")
    folder = getattr(base, "FOLDER", None)
    if folder is None:
        return build(base, {k: v for k, v in knobs.items() if k != "name"}, where)
    if "name" not in knobs:
        raise SpecError(f"{where}.name is missing")
    try:
        cls = component_class(folder, str(knobs["name"]))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error
    return build(cls, {k: v for k, v in knobs.items() if k != "name"}, where)


def _component_type(hint: Any) -> type[Any] | None:
    """The dataclass that a field holds, `X` or `X | None`; None for plain fields."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    components = [option for option in options if dataclasses.is_dataclass(option)]
    return components[0] if components else None  # type: ignore[return-value]
