"""What each knob of a spec costs, and what would make its plan cheaper."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from components.data.card import Card
from components.identity import canonical_json
from grid.planning.plan import Plan
from grid.planning.planned import PlannedStage, PlannedTrial
from grid.results.entry import flattened
from grid.spec.block import Block
from grid.spec.candidates import blocks, changed_kinds, contexts
from grid.spec.drawings import generators
from grid.spec.space import Axis, Choice, Node, Range, Value, axes, points, under

SEEDS, SHARE = "seeds", 10
PARTS = ("parameters", "inputs", "data")  # of a stage's identity
Option = tuple[str, str]  # a part of the spec, and the place of a choice in it


@dataclass(frozen=True)
class KnobCost:
    """A swept knob. place: its dotted name; values: as written; stages: the kinds of stages that it changes,
    empty for one that is read when a trial runs; when: settings of other knobs under which that is so, or is
    not.

    trials, stage_runs, passes: how many times as many trials, stages and images that models read there are as
    with its first value alone. None where trials are drawn or proposed: a search pays for its budget.
    """

    place: str
    values: str
    stages: tuple[str, ...]
    when: str
    trials: float | None
    stage_runs: float | None
    passes: float | None


@dataclass(frozen=True)
class Parted:
    """A kind of which the plan has so many `stages`, and would have `without` if none differed in one
    parameter; passes: images that models would not have to read."""

    kind: str
    parameter: str
    stages: int
    without: int
    passes: int


@dataclass(frozen=True)
class Explanation:
    """knobs: in the order in which they are written. cheaper: knobs which, each at its first value, leave a
    tenth of the model passes or less, the one that saves most first; empty where none do. passes: of the
    whole plan, whatever of it is cached, and what is left then."""

    knobs: tuple[KnobCost, ...]
    parted: tuple[Parted, ...]
    cheaper: tuple[str, ...]
    passes: tuple[int, int]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def explained(plan: Plan) -> Explanation:
    """What the spec sweeps and what that costs."""
    return _Sweeps(plan).explained()


class _Sweeps:
    """The trees of a spec, and at which option of each the trials of its plan are."""

    def __init__(self, plan: Plan) -> None:
        spec, self._plan = plan.spec, plan
        self._card: Card = plan.datasets[0].card
        self._blocks = {block.where: block for block in blocks(spec, self._card)}
        self._data = generators(spec)
        seeds = Choice(tuple(Value(seed) for seed in spec.seeds))
        self._trees: dict[str, Node] = {**dict(self._data), **({SEEDS: seeds} if len(spec.seeds) > 1 else {})}
        self._trees |= {where: block.tree for where, block in self._blocks.items()}
        self._counts = spec.search.kind == "grid"
        self._options = dict(self._of_trials()) if self._counts else {}

    def explained(self) -> Explanation:
        """A knob that several variants of a block sweep alike is one."""
        alike: dict[tuple[str, ...], list[Axis]] = {}
        for where, tree in self._trees.items():
            for axis in axes(tree):
                alike.setdefault((where, axis.knob, *axis.values), []).append(axis)
        found = [
            (self._cost(where, same), frozenset((where, axis.place) for axis in same))
            for (where, *_), same in alike.items()
        ]
        cheaper, left = self._cheaper({options: cost.place for cost, options in found})
        passes = self._passes(self._plan.trials)
        return Explanation(tuple(cost for cost, _ in found), tuple(self._parted()), cheaper, (passes, left))

    def _of_trials(self) -> Iterator[tuple[str, dict[Option, int]]]:
        """By trial."""
        of_candidate: dict[str, dict[Option, int]] = {}
        for where, block in self._blocks.items():
            for at in points(block.tree):
                options = {(where, place): nth for place, nth in at.options.items()}
                of_candidate.setdefault(block.at(at).identity, options)
        drawn = [(where, at) for where, tree in self._data for at in points(tree)]
        of_data = {
            dataset.label: {(where, place): nth for place, nth in at.options.items()}
            for dataset, (where, at) in zip(self._plan.datasets, drawn, strict=True)
        }
        for trial in self._plan.trials:
            seed = {(SEEDS, ""): self._plan.spec.seeds.index(trial.seed)}
            yield trial.id, {**of_candidate[trial.candidate.identity], **of_data[trial.dataset.label], **seed}

    def _cost(self, where: str, alike: list[Axis]) -> KnobCost:
        block, axis = self._blocks.get(where), alike[0]
        place = block.name(axis) if block else under(where, axis.knob) if axis.knob else where
        values = " to ".join(axis.values) if isinstance(axis.node, Range) else ", ".join(axis.values)
        first = self._at_first({(where, one.place) for one in alike})
        stages, when = self._changed_by_data(first) if block is None else self._changed(block, axis)
        if not first:
            return KnobCost(place, values, stages, when, None, None, None)
        every = self._plan.trials
        factors = [
            round(whole / part, 2) if part else None
            for whole, part in (
                (len(every), len(first)),
                (len(self._stages(every)), len(self._stages(first))),
                (self._passes(every), self._passes(first)),
            )
        ]
        return KnobCost(place, values, stages, when, *factors)

    def _at_first(self, options: Collection[Option]) -> list[PlannedTrial]:
        """The trials that are at the first value of these knobs, or have none."""
        every = self._plan.trials if self._counts else ()
        return [t for t in every if not any(self._options[t.id].get(option, 0) for option in options)]

    def _changed(self, block: Block, axis: Axis) -> tuple[tuple[str, ...], str]:
        """Kinds of stages that a knob changes, and when."""
        found = [(name, changed_kinds(block, axis, at, self._card)) for name, at in contexts(block, axis)]
        kinds = tuple(sorted({kind for _, one in found for kind in one}))
        at_first, others = found[0][1], found[1:]
        if at_first:
            unless = [name for name, one in others if not one]
            return kinds, f"not with {' or '.join(unless)}" if unless else ""
        only = [name for name, one in others if one]
        return kinds, f"only with {' or '.join(only)}" if only else ""

    def _changed_by_data(self, first: Collection[PlannedTrial]) -> tuple[tuple[str, ...], str]:
        """Kinds of which there are fewer with one drawing, or one seed."""
        every, less = self._stages(self._plan.trials), self._stages(first)
        more, fewer = (Counter(stage.stage.kind for stage in stages) for stages in (every, less))
        return tuple(sorted(more - fewer)), ""

    def _stages(self, trials: Collection[PlannedTrial]) -> list[PlannedStage]:
        keys = {key for trial in trials for key in trial.closure}
        return [stage for key, stage in self._plan.stages.items() if key in keys]

    def _passes(self, trials: Collection[PlannedTrial]) -> int:
        return sum(stage.model_passes for stage in self._stages(trials))

    def _cheaper(self, places: dict[frozenset[Option], str]) -> tuple[tuple[str, ...], int]:
        """See Explanation: whichever knob saves most is taken, again and again."""
        every = left = self._passes(self._plan.trials)
        chosen: list[frozenset[Option]] = []
        while self._counts and left * SHARE > every:
            left_of = {
                one: self._passes(self._at_first(one.union(*chosen))) for one in places if one not in chosen
            }
            best = min(left_of, key=lambda one: left_of[one], default=None)
            if best is None or left_of[best] >= left:
                return (), every
            chosen.append(best)
            left = left_of[best]
        return tuple(places[one] for one in chosen), left

    def _parted(self) -> Iterator[Parted]:
        """Of each kind the parameters that alone set stages apart, those that save most passes first."""
        found = []
        by_kind: dict[str, list[PlannedStage]] = {}
        for stage in self._plan.stages.values():
            by_kind.setdefault(stage.stage.kind, []).append(stage)
        for kind, stages in by_kind.items():
            told = [dict(flattened({k: stage.identity[k] for k in PARTS})) for stage in stages]
            for path in sorted({path for one in told for path in one}):
                alike = {
                    canonical_json([[".".join(p), v] for p, v in one.items() if p != path]): stage
                    for one, stage in zip(told, stages, strict=True)
                }
                if len(alike) < len(stages):
                    passes = sum(s.model_passes for s in stages) - sum(s.model_passes for s in alike.values())
                    name = ".".join(path[1:]) if path[0] == "parameters" else " ".join(path)
                    found.append(Parted(kind, name, len(stages), len(alike), passes))
        yield from sorted(found, key=lambda one: (-one.passes, one.without - one.stages))
