"""Search spaces: what a spec writes for a method as a tree of choices and ranges, and its configurations."""

import itertools
import json
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from grid.spec.build import (
    NAME,
    as_record,
    class_of,
    component_type,
    hints_of,
    is_list,
    is_whole,
    refuse_unknown,
)
from grid.spec.spec import LARGEST, SpecError


@dataclass(frozen=True)
class Value:
    """A knob that is given."""

    value: Any


@dataclass(frozen=True)
class Range:
    """A continuous (or integer) range of one knob, both ends allowed."""

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

    def ends(self) -> tuple[float | int, float | int]:
        """Both ends, whole where the knob is."""
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """A finite list of what may stand in a place."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Record:
    """The knobs of a component, `name` among them where it has one."""

    knobs: Mapping[str, "Node"]


Node = Value | Range | Choice | Record


VARIANTS, VARIANT = "variants", "variant"  # in a block, and beside the knobs of one of its variants


class Chooser(Protocol):
    """Who decides. A place is the dotted path of a knob; below a choice it has the option's number, for what
    lies there exists only where that option is chosen: `segmenter[1].scale`."""

    def option(self, place: str, n: int) -> int:
        """Which of n options, from 0."""

    def number(self, place: str, ends: Range) -> float | int:
        """A number of the range."""


@dataclass(frozen=True)
class Axis:
    """A place where configurations differ. knob: its dotted name; within: the options, by their places, under
    which it exists; changes: what it can be, as numbers of options or, of a range, its ends."""

    place: str
    knob: str
    node: Choice | Range
    within: Mapping[str, int]

    @property
    def title(self) -> str:
        """The knob's dotted name; a choice of whole blocks is one of variants."""
        return self.knob or VARIANTS

    @property
    def values(self) -> list[str]:
        """What it can be, as it is written; of a range its ends."""
        if isinstance(self.node, Range):
            return [_shown(end) for end in self.node.ends()]
        return [_shown(configuration_of(option, At())) for option in self.node.options]

    @property
    def changes(self) -> list["At"]:
        """The configuration at each of its values, everything else at its first."""
        if isinstance(self.node, Range):
            return [At(self.within, {self.place: end}) for end in self.node.ends()]
        return [At({**self.within, self.place: nth}) for nth in range(len(self.node.options))]


@dataclass(frozen=True)
class At:
    """Chooses what is told, and elsewhere the first option and the low end."""

    options: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, float | int] = field(default_factory=dict)

    def option(self, place: str, n: int) -> int:
        """As told, or the first."""
        return self.options.get(place, 0)

    def number(self, place: str, ends: Range) -> float | int:
        """As told, or the low end."""
        return self.numbers.get(place, ends.ends()[0])

    def beside(self, other: "At") -> "At":
        """Both, the other where they differ."""
        return At({**self.options, **other.options}, {**self.numbers, **other.numbers})


@dataclass(frozen=True)
class Drawn:
    """Chooses at random."""

    stream: np.random.Generator

    def option(self, place: str, n: int) -> int:
        """Each as likely as the others."""
        return int(self.stream.integers(n))

    def number(self, place: str, ends: Range) -> float | int:
        """Drawn evenly."""
        return ends.sample(self.stream)


def configuration_of(node: Node, chooser: Chooser, place: str = "") -> Any:
    """The plain value that the chooser makes of the tree: its choices first, then what lies below, then its
    ranges."""
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Range):
        return chooser.number(place, node)
    if isinstance(node, Choice):
        nth = chooser.option(place, len(node.options))
        return configuration_of(node.options[nth], chooser, below(place, nth))
    order = sorted(node.knobs, key=lambda name: _turn(node.knobs[name]))
    values = {name: configuration_of(node.knobs[name], chooser, under(place, name)) for name in order}
    return {name: values[name] for name in node.knobs}


def _turn(node: Node) -> int:
    return (Choice, Value, Record, Range).index(type(node))


def under(place: str, name: str) -> str:
    """The place of a knob of a record."""
    return f"{place}.{name}" if place else name


def below(place: str, nth: int) -> str:
    """What lies in an option of the choice at this place."""
    return f"{place}[{nth}]"


def _shown(value: Any) -> str:
    """A value as it is written; a record that has a name by that, and by what is given beside it."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if VARIANT in value:
        return str(value[VARIANT])
    rest = {name: inner for name, inner in value.items() if name != NAME}
    knobs = ", ".join(f"{name}: {_shown(inner)}" for name, inner in rest.items())
    return " ".join(filter(None, [str(value.get(NAME, "")), f"{{{knobs}}}" if knobs else ""]))


def points(node: Node, kept: Container[str] | None = None, place: str = "") -> Iterator[At]:
    """Every combination of the choices in a tree: of a record the product over its knobs, the last one
    fastest; of a choice one option after the other. Ranges stay at their low end, and so do, at their first
    option, choices at places that are not `kept` (None: all are)."""
    if isinstance(node, Choice):
        for nth in range(len(node.options) if kept is None or place in kept else 1):
            for at in points(node.options[nth], kept, below(place, nth)):
                yield At({place: nth}).beside(at)
    elif isinstance(node, Record):
        knobs = [list(points(knob, kept, under(place, name))) for name, knob in node.knobs.items()]
        for each in itertools.product(*knobs):
            yield At({at: nth for one in each for at, nth in one.options.items()})
    else:
        yield At()


def axes(
    node: Node, place: str = "", knob: str = "", within: Mapping[str, int] | None = None
) -> Iterator[Axis]:
    """All places where configurations differ, in the order in which they are written."""
    within = within or {}
    if isinstance(node, Choice | Range):
        yield Axis(place, knob, node, within)
    if isinstance(node, Choice):
        for nth, option in enumerate(node.options):
            yield from axes(option, below(place, nth), knob, {**within, place: nth})
    if isinstance(node, Record):
        for name, value in node.knobs.items():
            yield from axes(value, under(place, name), under(knob, name), within)


def merged(knobs: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs with others in their place; records are merged, unless another component is named."""
    both = dict(knobs)
    for name, value in others.items():
        before = both.get(name)
        inner = isinstance(before, Mapping) and isinstance(value, Mapping) and "low" not in {*before, *value}
        if inner and value.get(NAME, before.get(NAME)) == before.get(NAME):  # type: ignore[union-attr]
            both[name] = merged(before, value)  # type: ignore[arg-type]
        else:
            both[name] = value
    return both


def parse_record(cls: type[Any], knobs: Mapping[str, Any], where: str) -> Record:
    """The tree of a component's knobs as they are written; SpecError for an unknown key or a wrong range."""
    refuse_unknown(cls, (key for key in knobs if key != NAME), where)
    hints = {NAME: str, **hints_of(cls)}
    return Record({key: parse(hints[key], value, f"{where}.{key}") for key, value in knobs.items()})


def parse(hint: Any, value: Any, where: str) -> Node:
    """The tree of what is written in a place, for a knob of this type.

    A list is a choice; where the knob is itself a list, a list of lists is. A component may have a list of
    names: each then takes those of the other knobs that it has.
    """
    if isinstance(value, list) and not (is_list(hint) and not _of_lists(value, where)):
        if not value:
            raise SpecError(f"{where} is an empty list: give at least one choice")
        return Choice(tuple(parse_option(hint, item, where) for item in value))
    return parse_option(hint, value, where)


def _of_lists(value: list[Any], where: str) -> bool:
    """Whether a list knob's list is one of choices."""
    lists = [isinstance(item, list) for item in value]
    if any(lists) and not all(lists):
        raise SpecError(f"{where} = {value!r}: the knob is itself a list: a choice of it is a list of lists")
    return any(lists)


def parse_option(hint: Any, value: Any, where: str) -> Node:
    """The tree of what is written in a place, or as one of its choices."""
    base = component_type(hint)
    if base is None:
        if isinstance(value, Mapping) and "low" in value and "high" in value:
            return _range(value, hint, where)
        if isinstance(value, list) and not is_list(hint):
            raise SpecError(f"{where} = {value!r}: a list within a list of choices")
        return Value(value)
    if value is None:
        return Value(None)
    knobs = as_record(base, value, where)
    if isinstance(knobs.get(NAME), list):
        return _each_name(base, knobs, where)
    cls = class_of(base, knobs, where)
    return parse_record(cls, knobs, where)


def _each_name(base: type[Any], knobs: Mapping[str, Any], where: str) -> Choice:
    """A component that is chosen by name, each with the knobs that it has."""
    classes = [class_of(base, {NAME: name}, where) for name in knobs[NAME]]
    if not classes:
        raise SpecError(f"{where}.name is an empty list: give at least one choice")
    known = {key for cls in classes for key in hints_of(cls)}
    strange = [key for key in knobs if key not in {NAME, *known}]
    for cls in classes if strange else ():
        refuse_unknown(cls, strange, where)
    each = [
        (cls, {NAME: name, **{key: knobs[key] for key in knobs if key != NAME and key in hints_of(cls)}})
        for name, cls in zip(knobs[NAME], classes, strict=True)
    ]
    return Choice(tuple(parse_record(cls, own, where) for cls, own in each))


def _range(value: Mapping[str, Any], hint: Any, where: str) -> Range:
    """The range; SpecError if it is none. It is of whole numbers where the knob is."""
    low, high, log = value["low"], value["high"], value.get("log", False)
    numbers = all(type(end) in (int, float) and -LARGEST <= end <= LARGEST for end in (low, high))
    extra = set(value) - {"low", "high", "log"}
    if extra or not numbers or low >= high or not isinstance(log, bool) or (log and low <= 0):
        allowed = "a range is two finite numbers, low < high, and `log: true` needs low > 0"
        raise SpecError(f"{where} = {dict(value)!r}: {allowed}")
    return Range(low, high, log, integer=is_whole(hint))
