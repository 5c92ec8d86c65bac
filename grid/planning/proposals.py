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


class OneByOne:
    """The trials of each group on their own, so that one can be stopped without the others. The group is told
    when all of its trials have ended."""

    def __init__(self, proposals: Proposals) -> None:
        self._proposals = proposals
        self._waiting: deque[PlannedTrial] = deque()
        self._groups: dict[str, tuple[list[PlannedTrial], set[str]]] = {}

    def next(self) -> list[PlannedTrial] | None:
        """The next trial."""
        if not self._waiting:
            group = self._proposals.next()
            if group is None:
                return None
            self._waiting.extend(group)
            running = {trial.id for trial in group}
            self._groups.update((trial.id, (group, running)) for trial in group)
        return [self._waiting.popleft()]

    def tell(self, group: Sequence[PlannedTrial]) -> None:
        """This trial has ended."""
        for trial in group:
            whole, running = self._groups.pop(trial.id)
            running.discard(trial.id)
            if not running:
                self._proposals.tell(whole)


class Rest:
    """The trials of a grid (or a random sample) that are not done, one at a time."""

    def __init__(self, trials: Sequence[PlannedTrial]) -> None:
        self._queue = deque(trials)

    def next(self) -> list[PlannedTrial] | None:
        """The next trial."""
        return [self._queue.popleft()] if self._queue else None

    def tell(self, group: Sequence[PlannedTrial]) -> None:
        """Nothing is learnt."""
