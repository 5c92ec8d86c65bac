"""What is to be run next: the rest of a grid in order, or what Optuna asks for."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from grid.planning.planned import PlannedTrial


class Proposals(Protocol):
    """Groups of trials that one worker runs one after the other."""

    def next(self) -> list[PlannedTrial] | None:
        """The next group; None when there is no more."""

    def tell(self, group: Sequence[PlannedTrial]) -> None:
        """A group has ended; its results are in the results store."""


class Rest:
    """The trials of a grid (or a random sample) that are not done, one at a time."""

    def __init__(self, trials: Sequence[PlannedTrial]) -> None:
        self._queue = deque(trials)

    def next(self) -> list[PlannedTrial] | None:
        """The next trial."""
        return [self._queue.popleft()] if self._queue else None

    def tell(self, group: Sequence[PlannedTrial]) -> None:
        """Nothing is learnt."""
