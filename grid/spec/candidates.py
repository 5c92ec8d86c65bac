"""Which configurations an experiment has: all of a grid, a random sample, or what Optuna will propose."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from components.data.card import Card
from components.identity import canonical_json, component_name, configuration, rng
from components.method import Method
from grid.spec.space import Configuration, Range, Space, parse_space
from grid.spec.spec import Spec, SpecError

MAX_DRAWS_PER_TRIAL = 200  # a space with fewer configurations than asked for runs dry


@dataclass(frozen=True)
class Candidates:
    """`methods`: the configurations as objects. With Optuna they are not the trials, but one for each
    combination of choices that changes a stage, and `budget` is the number of trials."""

    methods: tuple[Method, ...]
    budget: int | None = None


def spaces(spec: Spec, card: Card) -> list[Space]:
    """The blocks of the spec; SpecError if one is wrong or does not fit the search."""
    found = [parse_space(block, position) for position, block in enumerate(spec.methods)]
    for space in found:
        if spec.search.kind == "grid" and space.ranges:
            name = next(iter(space.ranges))
            raise SpecError(f"{space.where}.{name}: a grid takes lists, no ranges (search.kind: grid)")
        _refuse_ranges_that_change_a_stage(space, card)
    return found


def candidates(spec: Spec, card: Card) -> Candidates:
    """The configurations of the spec. `card`: of any of its data sets; it decides nothing but shows which
    knobs change a stage."""
    found = spaces(spec, card)
    if spec.search.kind == "grid":
        return Candidates(_distinct(s.build(c) for s in found for c in s.grid()))
    if spec.search.kind == "random":
        return Candidates(_sample(spec, found))
    methods = _distinct(s.build(c) for s in found for c in _stage_choices(s, card))
    for space in found:
        _refuse_unknown_metric(spec, space, card)
    return Candidates(methods, spec.search.trials)


def _distinct(methods: Iterator[Method]) -> tuple[Method, ...]:
    seen: dict[str, Method] = {}
    for method in methods:
        seen.setdefault(identity(method), method)
    return tuple(seen.values())


def identity(method: Method) -> str:
    """What two equal configurations share, whatever form their numbers were written in."""
    return canonical_json([component_name(method), configuration(method)])


def configurations_of(spec: Spec) -> int:
    """Configurations that a budget of `search.trials` trials pays for: each takes every seed on every
    data set."""
    per_configuration = len(spec.seeds) * len(spec.datasets)
    trials = spec.search.trials or 0
    if trials % per_configuration:
        raise SpecError(
            f"search.trials = {trials}: must be a multiple of seeds x data sets = {per_configuration}"
        )
    return trials // per_configuration


def _sample(spec: Spec, found: list[Space]) -> tuple[Method, ...]:
    stream = rng(spec.search.seed, "random search")
    wanted = configurations_of(spec)
    methods: dict[str, Method] = {}
    for _ in range(wanted * MAX_DRAWS_PER_TRIAL):
        if len(methods) == wanted:
            return tuple(methods.values())
        space = found[stream.integers(len(found))]
        method = space.build(space.sample(stream))
        methods.setdefault(identity(method), method)
    raise SpecError(f"search.trials: the space has hardly more than {len(methods)} configurations")


def _stages_of(space: Space, configuration_: Configuration, card: Card) -> str:
    """The stages of a configuration, and the models that its trials load, as text; the same text, the same
    stages and weights on any data set."""
    method = space.build(configuration_)
    return repr((method.stages(card, 0), method.models(card)))


def _refuse_ranges_that_change_a_stage(space: Space, card: Card) -> None:
    first = space.first()
    for name, ends in space.ranges.items():
        if _stages_of(space, first, card) != _stages_of(space, first | {name: _high(ends)}, card):
            raise SpecError(
                f"{space.where}.{name} changes a stage: give a finite list, so that every distinct "
                "stage is known before anything runs"
            )


def _refuse_unknown_metric(spec: Spec, space: Space, card: Card) -> None:
    """SpecError if no configuration of the space can report what the search goes by, where methods say so;
    choices are looked at one by one."""
    metric, selection, first = spec.search.metrics[0], spec.search.selection, space.first()
    tried = [first, *(first | {name: value} for name, values in space.choices.items() for value in values)]
    reported = [space.build(one).validated(card) for one in tried]
    if any(found is None or metric in found.get(selection, ()) for found in reported):
        return
    selections = sorted({name for found in reported if found for name in found})
    names = sorted({name for found in reported if found for name in found.get(selection, ())})
    if not selections:
        wrong, allowed = f"search: {space.method} reports nothing on the split val", ""
    elif selection not in selections:
        wrong, allowed = f"search.selection = {selection!r}", ", ".join(selections)
    else:
        wrong, allowed = f"search.metric = {metric!r}", ", ".join(names)
    said = f"; {space.method} reports on the split val: {allowed}" if allowed else ""
    raise SpecError(f"{wrong}{said}{_closest(metric if names else selection, names or selections)}")


def _closest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; closest: {close[0]}" if close else ""


def _high(ends: Range) -> float | int:
    return int(ends.high) if ends.integer else ends.high


def _stage_choices(space: Space, card: Card) -> Iterator[Configuration]:
    """One configuration for each combination of those choices that change a stage."""
    first = space.first()
    base = _stages_of(space, first, card)
    varied = {
        name: values
        for name, values in space.choices.items()
        if any(_stages_of(space, first | {name: value}, card) != base for value in values[1:])
    }
    for values in itertools.product(*varied.values()):
        yield first | dict(zip(varied, values, strict=True))
