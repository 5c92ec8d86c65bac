"""Which configurations an experiment has: all of a grid, a random sample, or what Optuna will propose."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from components.data.card import Card
from components.identity import rng
from grid.spec.block import Block, Candidate, parse_block
from grid.spec.drawings import drawings
from grid.spec.space import At, Axis, Drawn, Range, points
from grid.spec.spec import Spec, SpecError

TRIAL = "the trial's own models"
MAX_DRAWS_PER_TRIAL = 200  # a space with fewer configurations than asked for runs dry


@dataclass(frozen=True)
class Candidates:
    """`distinct`: the configurations. With Optuna they are not the trials, but one for each combination of
    choices that changes a stage, and `budget` is the number of trials."""

    distinct: tuple[Candidate, ...]
    budget: int | None = None


def blocks(spec: Spec, card: Card) -> list[Block]:
    """The blocks of the spec; SpecError if one is wrong or does not fit the search."""
    found = [parse_block(block, position) for position, block in enumerate(spec.methods)]
    for block in found:
        ranges = [axis for axis in block.axes if isinstance(axis.node, Range)]
        if spec.search.kind == "grid" and ranges:
            raise SpecError(f"{block.name(ranges[0])}: a grid takes lists, no ranges (search.kind: grid)")
        for axis in ranges:
            if changes_a_stage(block, axis, card):
                raise SpecError(
                    f"{block.name(axis)} changes a stage: give a finite list, so that every distinct "
                    "stage is known before anything runs"
                )
    return found


def candidates(spec: Spec, card: Card) -> Candidates:
    """The configurations of the spec. `card`: of any of its data sets; it decides nothing but shows which
    knobs change a stage."""
    found = blocks(spec, card)
    _refuse_blind_scheduler(spec, found)
    if spec.search.kind == "grid":
        return Candidates(_distinct(candidate for block in found for candidate in block.grid()))
    if spec.search.kind == "random":
        return Candidates(_sample(spec, found))
    distinct = _distinct(candidate for block in found for candidate in _stage_choices(block, card))
    for block, metric in itertools.product(found, spec.search.metrics):
        _refuse_unknown_metric(metric, spec.search.selection, block, card)
    return Candidates(distinct, spec.search.trials)


def _distinct(found: Iterator[Candidate]) -> tuple[Candidate, ...]:
    seen: dict[str, Candidate] = {}
    for candidate in found:
        seen.setdefault(candidate.identity, candidate)
    return tuple(seen.values())


def configurations_of(spec: Spec) -> int:
    """Configurations that a budget of `search.trials` trials pays for: each takes every seed on every
    data set."""
    per_configuration = len(spec.seeds) * len(drawings(spec))
    trials = spec.search.trials or 0
    if trials % per_configuration:
        raise SpecError(
            f"search.trials = {trials}: must be a multiple of seeds x data sets = {per_configuration}"
        )
    return trials // per_configuration


def _sample(spec: Spec, found: list[Block]) -> tuple[Candidate, ...]:
    chooser = Drawn(rng(spec.search.seed, "random search"))
    wanted = configurations_of(spec)
    drawn: dict[str, Candidate] = {}
    for _ in range(wanted * MAX_DRAWS_PER_TRIAL):
        if len(drawn) == wanted:
            return tuple(drawn.values())
        candidate = found[chooser.option("", len(found))].at(chooser)
        drawn.setdefault(candidate.identity, candidate)
    raise SpecError(f"search.trials: the space has hardly more than {len(drawn)} configurations")


def changed_kinds(block: Block, axis: Axis, context: At, card: Card) -> frozenset[str]:
    """The kinds of stages, and TRIAL for the models that a trial itself loads, that are not the same at all
    values of the axis, everything else as in the context; the same on any data set."""
    found = [_by_kind(block.at(context.beside(change)), card) for change in axis.changes]
    kinds = {kind for one in found for kind in one}
    return frozenset(kind for kind in kinds if any(one.get(kind) != found[0].get(kind) for one in found))


def _by_kind(candidate: Candidate, card: Card) -> dict[str, set[str]]:
    """The stages that a configuration reads, those too that these read, as text by kind."""
    found: dict[str, set[str]] = {TRIAL: {repr(candidate.method.models(card))}}
    waiting = list(candidate.method.stages(card, 0).values())
    while waiting:
        stage = waiting.pop()
        found.setdefault(stage.kind, set()).add(repr(stage))
        waiting += stage.inputs().values()
    return found


def contexts(block: Block, axis: Axis) -> Iterator[tuple[str, At]]:
    """Everything else at its first, and each value of another knob, by name, with the rest at its first."""
    yield "", At()
    for other in block.axes:
        if other is not axis and other.place not in axis.within:
            yield from zip((f"{other.title} = {v}" for v in other.values[1:]), other.changes[1:], strict=True)


def changes_a_stage(block: Block, axis: Axis, card: Card) -> bool:
    """Whether what this axis is at decides a stage, in any of the contexts."""
    return any(changed_kinds(block, axis, context, card) for _, context in contexts(block, axis))


def _stage_choices(block: Block, card: Card) -> Iterator[Candidate]:
    """One configuration for each combination of those choices that change a stage."""
    kept = {axis.place for axis in block.axes if changes_a_stage(block, axis, card)}
    return map(block.at, points(block.tree, kept))


def _one_by_one(block: Block) -> list[At]:
    """Everything at its first, and each choice elsewhere beside that."""
    return [At(), *(change for axis in block.axes for change in axis.changes)]


def _refuse_unknown_metric(metric: str, selection: str, block: Block, card: Card) -> None:
    """SpecError if no configuration of the block can report what the search goes by, where methods say so;
    choices are looked at one by one."""
    reported = [block.at(one).method.validated(card) for one in _one_by_one(block)]
    if any(found is None or metric in found.get(selection, ()) for found in reported):
        return
    selections = sorted({name for found in reported if found for name in found})
    names = sorted({name for found in reported if found for name in found.get(selection, ())})
    if not selections:
        wrong, allowed = f"search: {block.method} reports nothing on the split val", ""
    elif selection not in selections:
        wrong, allowed = f"search.selection = {selection!r}", ", ".join(selections)
    else:
        wrong, allowed = f"search.metric = {metric!r}", ", ".join(names)
    said = f"; {block.method} reports on the split val: {allowed}" if allowed else ""
    raise SpecError(f"{wrong}{said}{_closest(metric if names else selection, names or selections)}")


def _refuse_blind_scheduler(spec: Spec, found: list[Block]) -> None:
    """SpecError if the scheduler goes by what no method of the spec reports at steps."""
    watched = spec.search.watched
    if watched is None:
        return
    reported: dict[str, frozenset[str]] = {}
    for block in found:
        for one in _one_by_one(block):
            method = block.at(one).method
            if method.can_be_stopped_by(watched.metric):
                return
            reported[block.method] = reported.get(block.method, frozenset()) | method.at_steps()
    said = [f"{name}: {', '.join(sorted(numbers))}" for name, numbers in reported.items() if numbers]
    those = f"reported there: {'; '.join(said)}" if said else "none of them trains in its trials step by step"
    raise SpecError(
        f"search.scheduler: no method of the spec reports {watched.metric!r} after steps of a training; "
        f"{those}. Name another metric and its mode, or take the scheduler out"
    )


def _closest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; closest: {close[0]}" if close else ""
