"""Search spaces: a method's block of a spec as configurations, and configurations as method objects."""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from components.data.written import unknown
from components.method import Method
from grid.names import UnknownName, component_class
from grid.spec.spec import LARGEST, SpecError, explain

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
    _refuse_unknown(method, [key for key in block if key != METHOD], where)
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
    """The range; SpecError if it is none. It is of whole numbers where the knob is, also one that may be
    null."""
    low, high, log = value["low"], value["high"], value.get("log", False)
    numbers = all(type(end) in (int, float) and -LARGEST <= end <= LARGEST for end in (low, high))
    extra = set(value) - {"low", "high", "log"}
    if extra or not numbers or low >= high or not isinstance(log, bool) or (log and low <= 0):
        allowed = "a range is two finite numbers, low < high, and `log: true` needs low > 0"
        raise SpecError(f"{where} = {dict(value)!r}: {allowed}")
    kinds = {hint, *typing.get_args(hint)}
    return Range(low, high, log, integer=int in kinds and float not in kinds)


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
    """An object of a component dataclass from plain values; nested components by their `name`.

    The one place where records of knobs are made from what people write. SpecError in one line for a knob
    that does not exist, at any depth, or a value that is not allowed; `where` begins it.
    """
    _refuse_unknown(cls, configuration, where)
    hints = typing.get_type_hints(cls)
    values = {key: _nested(hints[key], value, f"{where}.{key}") for key, value in configuration.items()}
    try:
        built = TypeAdapter(cls).validate_python(values, strict=False)
    except ValidationError as error:
        raise SpecError(f"{where}.{explain(error, cls)}") from error
    for key in configuration:
        for number in _numbers(getattr(built, key)):
            if not -LARGEST <= number <= LARGEST:  # so neither NaN nor an infinity
                raise SpecError(f"{where}.{key} = {number}: expected a finite number of at most 64 bits")
    return built


def _refuse_unknown(cls: type[Any], keys: Iterable[str], where: str) -> None:
    """SpecError for a key that is no knob; pydantic takes any of a plain dataclass."""
    fields = {field.name for field in dataclasses.fields(cls)}
    for key in keys:
        if key not in fields:
            raise SpecError(f"{where}: {unknown(str(key), fields, f'key of {_file(cls)}')}")


def _file(cls: type[Any]) -> str:
    """The name of the file that defines a class."""
    return cls.__module__.rpartition(".")[2]


def _numbers(value: Any) -> Iterator[float | int]:
    """The numbers in a knob's value."""
    for item in value if isinstance(value, tuple | list) else (value,):
        if isinstance(item, int | float):
            yield item


def _nested(hint: Any, value: Any, where: str) -> Any:
    """The object that a plain value stands for, where the field holds a component; else the value."""
    base = _component_type(hint)
    if base is None:
        return _no_truth(hint, value, where)
    if value is None:
        return value
    folder = getattr(base, "FOLDER", None)
    knobs = {"name": value} if folder is not None and isinstance(value, str) else value
    if not isinstance(knobs, Mapping):
        raise SpecError(f"{where} = {value!r}: expected a mapping of knobs")
    name, rest = knobs.get("name"), {key: knob for key, knob in knobs.items() if key != "name"}
    if folder is None:
        if name not in (None, _file(base)):  # its own, as stored configurations have it
            raise SpecError(f"{where}.name = {name!r}: {_file(base)} has no name to choose; leave it out")
        return build(base, rest, where)
    if name is None:
        raise SpecError(f"{where}.name is missing")
    try:
        cls = component_class(folder, str(name))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error
    return build(cls, rest, where)


def _no_truth(hint: Any, value: Any, where: str) -> Any:
    """The value; SpecError for a truth value where the field holds none: `yes` would pass as 1."""
    given = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) for item in given) and bool not in (hint, *typing.get_args(hint)):
        raise SpecError(f"{where} = {value!r}: true and false have no meaning here")
    return value


def _component_type(hint: Any) -> type[Any] | None:
    """The dataclass that a field holds, `X` or `X | None`; None for plain fields."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    components = [option for option in options if dataclasses.is_dataclass(option)]
    return components[0] if components else None  # type: ignore[return-value]
