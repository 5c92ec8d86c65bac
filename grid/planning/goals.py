"""What a search goes by: the numbers of a configuration, as its sampler is told them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from grid.planning.present_form import Recalled
from grid.results import history
from grid.spec.search import Search


@dataclass(frozen=True)
class Measured:
    """A configuration's means over its trials, by goal, and by how much it misses each condition (at most 0:
    it does not), in its worst trial."""

    goals: tuple[float, ...]
    excess: Mapping[str, float]

    @property
    def keeps_all(self) -> bool:
        """Whether no condition is missed."""
        return _keeps(self.excess)


@dataclass(frozen=True)
class Warm:
    """A configuration that trials of other experiments, named here, have measured."""

    known: Recalled
    measured: Measured
    experiments: tuple[str, ...]


def measured(connection: Connection, search: Search, trial_ids: Sequence[str], least: int) -> Measured | None:
    """What these trials of a configuration have; None if fewer than `least` of them are done and have all
    numbers."""
    goals = [
        history.metric_values(connection, trial_ids, name, "val", search.selection) for name in search.metrics
    ]
    excess = _excess(connection, search, trial_ids, least)
    if excess is None or any(len(values) < least for values in goals):
        return None
    return Measured(tuple(sum(values) / len(values) for values in goals), excess)


def kept(connection: Connection, search: Search, trial_ids: Sequence[str]) -> bool:
    """Whether all of these trials are known to keep the conditions of a search."""
    excess = _excess(connection, search, trial_ids, len(trial_ids))
    return excess is not None and _keeps(excess)


def _keeps(excess: Mapping[str, float]) -> bool:
    return all(one <= 0 for one in excess.values())


def _excess(
    connection: Connection, search: Search, trial_ids: Sequence[str], least: int
) -> dict[str, float] | None:
    """By how much each condition is missed; None where fewer trials than `least` have its number."""
    found = {}
    for one in search.conditions:
        values = history.condition_values(connection, trial_ids, one.name, search.selection)
        if len(values) < max(least, 1):
            return None
        found[one.name] = one.excess(values)
    return found
