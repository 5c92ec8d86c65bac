"""A block of a spec: one method, what is swept of its knobs, and its named variants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from components.identity import canonical, canonical_json, component_name, configuration
from components.method import Method
from grid.names import UnknownName, component_class
from grid.spec.build import NAME, build
from grid.spec.space import (
    VARIANT,
    VARIANTS,
    At,
    Axis,
    Choice,
    Chooser,
    Node,
    Range,
    Record,
    Value,
    axes,
    below,
    configuration_of,
    merged,
    parse_record,
    points,
    under,
)
from grid.spec.spec import SpecError

METHOD = "method"


@dataclass(frozen=True)
class Candidate:
    """A configuration as an object, and the name of the variant that it is of, if its block has any. coupled:
    the knobs, by their dotted names, that the variants of the block set."""

    method: Method
    variant: str | None = None
    coupled: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What two equal configurations share, whatever form their numbers were written in."""
        return canonical_json([component_name(self.method), configuration(self.method)])


@dataclass(frozen=True)
class Block:
    """One method with the tree of its knobs: with variants a choice of such trees, in which the variant's
    name stands beside the knobs."""

    position: int
    method: str
    tree: Node
    coupled: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """How errors call this block."""
        return f"methods.{self.position}"

    @cached_property
    def axes(self) -> list[Axis]:
        """Where its configurations differ."""
        return list(axes(self.tree))

    def name(self, axis: Axis) -> str:
        """How a spec writes the place of an axis."""
        return under(self.where, axis.title)

    def grid(self) -> Iterator[Candidate]:
        """Every configuration of a block without ranges."""
        return map(self.at, points(self.tree))

    def at(self, chooser: Chooser) -> Candidate:
        """The configuration that the chooser makes."""
        return self.build(configuration_of(self.tree, chooser))

    def build(self, knobs: Mapping[str, Any]) -> Candidate:
        """The method object; SpecError in one line if a value is not allowed."""
        variant = knobs.get(VARIANT)
        where = self.where if variant is None else f"{self.where}.{VARIANTS}.{variant}"
        given = {name: value for name, value in knobs.items() if name != VARIANT}
        method: Method = build(component_class(Method.FOLDER, self.method), given, where)
        return Candidate(method, variant, self.coupled)

    def located(self, config: Mapping[str, Any]) -> Iterator[At]:
        """Where in the tree a full configuration stands, by all that the tree says of it."""
        found = canonical(config)
        if isinstance(self.tree, Record):
            yield from _located(self.tree, found)
        elif isinstance(self.tree, Choice):  # of variants
            for nth, option in enumerate(self.tree.options):
                assert isinstance(option, Record)
                knobs = {name: knob for name, knob in option.knobs.items() if name != VARIANT}
                for at in _located(Record(knobs), found, below("", nth)):
                    yield At({"": nth}).beside(at)


def _located(node: Node, value: Any, place: str = "") -> Iterator[At]:
    if isinstance(node, Value):
        if canonical(node.value) == value and isinstance(node.value, bool) == isinstance(value, bool):
            yield At()
    elif isinstance(node, Range):
        if type(value) in (int, float) and node.low <= value <= node.high:
            yield At({}, {place: value})
    elif isinstance(node, Choice):
        for nth, option in enumerate(node.options):
            for at in _located(option, value, below(place, nth)):
                yield At({place: nth}).beside(at)
    elif isinstance(value, Mapping):
        found = [At()]
        for name, knob in node.knobs.items():
            inner = list(_located(knob, value[name], under(place, name))) if name in value else []
            found = [one.beside(at) for one in found for at in inner]
        yield from found


def parse_block(written: Mapping[str, Any], position: int) -> Block:
    """The block `methods[position]`; SpecError for an unknown method, key, value or range, a choice that is
    given twice, and variants that are alike."""
    where = f"methods.{position}"
    if METHOD not in written:
        raise SpecError(f"{where}.method is missing")
    try:
        cls = component_class(Method.FOLDER, str(written[METHOD]))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error
    knobs = {key: value for key, value in written.items() if key not in {METHOD, VARIANTS}}
    tree: Node = parse_record(cls, knobs, where)
    coupled: tuple[str, ...] = ()
    if VARIANTS in written:
        variants = _variants(written[VARIANTS], f"{where}.{VARIANTS}")
        trees = [
            parse_record(cls, merged(knobs, variant), f"{where}.{VARIANTS}.{name}")
            for name, variant in variants.items()
        ]
        named = zip(variants, trees, strict=True)
        tree = Choice(tuple(Record({VARIANT: Value(name), **one.knobs}) for name, one in named))
        coupled = tuple(dict.fromkeys(path for one in variants.values() for path in _paths(one)))
    block = Block(position, str(written[METHOD]), tree, coupled)
    _validate(block)
    return block


def _variants(written: Any, where: str) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(written, Mapping) or not written:
        raise SpecError(f"{where} = {written!r}: expected names, each with a mapping of knobs")
    for name, knobs in written.items():
        if not isinstance(knobs, Mapping):
            raise SpecError(f"{where}.{name} = {knobs!r}: expected a mapping of knobs")
        for key in knobs:
            if key in (METHOD, VARIANTS):
                raise SpecError(f"{where}.{name}.{key}: a variant sets knobs of its block's method alone")
    return written


def _paths(knobs: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of what a variant sets. A named component is exchanged whole."""
    for name, value in knobs.items():
        place = under(above, name)
        if isinstance(value, Mapping) and NAME not in value and "low" not in value:
            yield from _paths(value, place)
        else:
            yield place


def _validate(block: Block) -> None:
    """Builds the method once for every option and end of a range."""
    block.at(At())
    for axis in block.axes:
        seen: dict[str, str] = {}
        for nth, change in enumerate(axis.changes):
            candidate = block.at(change)
            if isinstance(axis.node, Range):
                continue
            place = below(axis.place, nth)
            inside = [(one.knob, one.node) for one in block.axes if one.place.startswith(place)]
            same = repr((candidate.identity, inside))
            value = axis.values[nth]
            if same in seen:
                raise SpecError(
                    f"{block.name(axis)}: {value} and {seen[same]} are the same value, given twice"
                )
            seen[same] = value
