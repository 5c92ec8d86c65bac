"""Components from what people write: records of knobs, checked at every depth."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from components.data.written import unknown
from grid.names import UnknownName, component_class
from grid.spec.kinds import kinds_of, of_its_kind
from grid.spec.spec import LARGEST, SpecError, explain

NAME = "name"
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}  # making one takes longer than what it is for


def build(cls: type[Any], configuration: Mapping[str, Any], where: str) -> Any:
    """An object of a component dataclass from plain values; nested components by their `name`.

    The one place where records of knobs are made from what people write. SpecError in one line for a knob
    that does not exist, at any depth, or a value that is not allowed; `where` begins it.
    """
    refuse_unknown(cls, configuration, where)
    hints = hints_of(cls)
    values = {key: _nested(hints[key], value, f"{where}.{key}") for key, value in configuration.items()}
    try:
        built = _adapter(cls).validate_python(values, strict=False)
    except ValidationError as error:
        raise SpecError(f"{where}.{explain(error, cls)}") from error
    for key in configuration:
        for number in _numbers(getattr(built, key)):
            if not -LARGEST <= number <= LARGEST:  # so neither NaN nor an infinity
                raise SpecError(f"{where}.{key} = {number}: expected a finite number of at most 64 bits")
    return built


def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def hints_of(cls: type[Any]) -> Mapping[str, Any]:
    """The type of each knob of a component dataclass."""
    return typing.get_type_hints(cls)


def refuse_unknown(cls: type[Any], keys: Iterable[str], where: str) -> None:
    """SpecError for a key that is no knob; pydantic takes any of a plain dataclass."""
    fields = {field.name for field in dataclasses.fields(cls)}
    for key in keys:
        if key not in fields:
            raise SpecError(f"{where}: {unknown(str(key), fields, f'key of {file_of(cls)}')}")


def file_of(cls: type[Any]) -> str:
    """The name of the file that defines a class."""
    return cls.__module__.rpartition(".")[2]


def _numbers(value: Any) -> Iterator[float | int]:
    """The numbers in a knob's value."""
    for item in value if isinstance(value, tuple | list) else (value,):
        if isinstance(item, int | float):
            yield item


def _nested(hint: Any, value: Any, where: str) -> Any:
    """The object that a plain value stands for, where the field holds a component; else the value."""
    base = component_type(hint)
    if base is None:
        try:
            return of_its_kind(hint, value)
        except ValueError as error:
            raise SpecError(f"{where} = {value!r}: {error}") from error
    if value is None:
        return value
    knobs = as_record(base, value, where)
    cls = class_of(base, knobs, where)
    return build(cls, {key: knob for key, knob in knobs.items() if key != NAME}, where)


def as_record(base: type[Any], value: Any, where: str) -> Mapping[str, Any]:
    """The mapping of knobs that a component is written as; a named one may be its name alone."""
    if hasattr(base, "FOLDER") and isinstance(value, str):
        return {NAME: value}
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} = {value!r}: expected a mapping of knobs")
    return value


def class_of(base: type[Any], knobs: Mapping[str, Any], where: str) -> type[Any]:
    """The class that a record of knobs is of: the base, or of its kind the one that is named."""
    name, folder = knobs.get(NAME), getattr(base, "FOLDER", None)
    if folder is None:
        if name not in (None, file_of(base)):  # its own, as stored configurations have it
            raise SpecError(f"{where}.name = {name!r}: {file_of(base)} has no name to choose; leave it out")
        return base
    if name is None:
        raise SpecError(f"{where}.name is missing")
    try:
        return component_class(folder, str(name))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error


def component_type(hint: Any) -> type[Any] | None:
    """The dataclass that a field holds, `X` or `X | None`; None for plain fields."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    components = [option for option in options if dataclasses.is_dataclass(option)]
    return components[0] if components else None  # type: ignore[return-value]


def is_list(hint: Any) -> bool:
    """Whether a knob's value is itself a list."""
    return typing.get_origin(hint) in (tuple, list)


def is_whole(hint: Any) -> bool:
    """Whether a knob's numbers are whole, also where it may be null."""
    kinds, _ = kinds_of(hint)
    return int in kinds and float not in kinds
