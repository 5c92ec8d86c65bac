"""The data sets of a spec, one for each way in which its generators are told to draw."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.data.card import Card, CardError, load_card
from components.identity import canonical_json, configuration
from grid.names import UnknownName, component_class
from grid.spec.build import NAME, build, class_of
from grid.spec.space import Node, Range, Value, axes, configuration_of, merged, parse, points, under
from grid.spec.spec import DatasetEntry, Spec, SpecError

GENERATORS = "components.data.generators"


def drawings(spec: Spec) -> list[DatasetEntry]:
    """The data sets in order; one whose generator has lists of choices is one for each of their combinations.

    SpecError for an unknown card or knob, a range (every value would be another data set), and a drawing that
    is given twice.
    """
    pairs = zip(spec.datasets, generators(spec), strict=True)
    return [one for entry, (where, tree) in pairs for one in _drawings(entry, where, tree)]


def generators(spec: Spec) -> list[tuple[str, Node]]:
    """For each data set the place of its generator's knobs in the spec, and the tree of them."""
    found: list[tuple[str, Node]] = []
    for position, entry in enumerate(spec.datasets):
        where = f"datasets.{position}.generator"
        tree: Node = Value({})
        if entry.generator:
            tree = parse(generator_class(_card(entry), where), entry.generator, where)
        for axis in axes(tree):
            if isinstance(axis.node, Range):
                place = under(where, axis.knob)
                raise SpecError(f"{place}: every value is another data set, so give a finite list, no range")
        found.append((where, tree))
    return found


def _card(entry: DatasetEntry) -> Card:
    try:
        return load_card(entry.name)
    except CardError as error:
        raise SpecError(str(error)) from error


def _drawings(entry: DatasetEntry, where: str, tree: Node) -> Iterator[DatasetEntry]:
    if not entry.generator:
        yield entry
        return
    seen: set[str] = set()
    for knobs in (configuration_of(tree, at) for at in points(tree)):
        same = canonical_json(configuration(generator_of(_card(entry), knobs, where)))
        if same in seen:
            raise SpecError(f"{where}: {canonical_json(knobs)} is given twice")
        seen.add(same)
        yield entry.model_copy(update={"generator": knobs})


def generator_class(card: Card, where: str) -> type[Any]:
    """What draws the data set of a card; SpecError if nothing does."""
    if card.generator is None:
        raise SpecError(f"data set {card.name} has no generator to set knobs of")
    try:
        return component_class(GENERATORS, str(card.generator.get(NAME, "")))
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error


def generator_of(card: Card, knobs: Mapping[str, Any], where: str) -> Any:
    """The generator of a card with these of its knobs in their place."""
    cls = class_of(generator_class(card, where), knobs, where)
    given = merged(card.generator or {}, knobs)
    return build(cls, {name: value for name, value in given.items() if name != NAME}, where)
