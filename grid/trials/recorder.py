"""The one writer: claims trials, and sets them done, stopped or failed in the results store, and then in the
mirror."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from grid.results import history
from grid.results.report import warning_of
from grid.results.store import ResultsStore
from grid.stores.artifacts import ArtifactStore
from grid.stores.evidence import BrokenEvidence
from grid.trials.trial import finished_report

log = logging.getLogger(__name__)

Submit = Callable[[str], None]


class Recorder:
    """Lives in the driver. `mirror(trial_id)` is told of every change after the results store has it."""

    def __init__(self, results: ResultsStore, store: ArtifactStore, launch_id: int, mirror: Submit) -> None:
        self._results, self._store, self._launch_id, self._mirror = (
            results,
            store,
            launch_id,
            mirror,
        )
        self._has_stopped = False
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.stopped: set[str] = set()
        self.failed: dict[str, str] = {}
        self.warnings: dict[str, str] = {}

    def claim(self, trial_id: str) -> int | None:
        """The number of this attempt; None if another launch has the trial, or it is done or was stopped
        early, or this launch has stopped."""
        if self._has_stopped:
            return None
        attempt = self._results.claim(trial_id, self._launch_id)
        if attempt is not None:
            self.running.add(trial_id)
            self._mirror(trial_id)
        return attempt

    def finish(self, report: dict[str, Any]) -> None:
        """A trial got to its end."""
        trial_id = report["trial"]
        self.running.discard(trial_id)
        if self._results.finish(trial_id, report):
            self.done.add(trial_id)
            if warning := warning_of(report):
                self.warnings[trial_id] = warning
            self._mirror(trial_id)

    def stop(self, report: dict[str, Any]) -> None:
        """A trial was stopped early."""
        trial_id = report["trial"]
        self.running.discard(trial_id)
        if self._results.stop(trial_id, report):
            self.stopped.add(trial_id)
            self._mirror(trial_id)

    def fail(self, trial_id: str, error: str) -> None:
        """A trial raised, or its worker died."""
        self.running.discard(trial_id)
        self.failed[trial_id] = error
        self._results.fail(trial_id, error)
        self._mirror(trial_id)

    def interrupt(self) -> None:
        """The launch stops: what runs is interrupted, and nothing more is claimed."""
        self._has_stopped = True
        running = set(self.running)  # another thread may still be told of one that ended
        self._results.interrupt(running)
        for trial_id in running:
            self._mirror(trial_id)
        self.running -= running

    def recover(self, trial_ids: Iterable[str]) -> set[str]:
        """Records the trials that had written their report before their driver died; returns them. Those
        whose report cannot be read run again, and one line says so."""
        recovered = set()
        with self._results.reading() as connection:
            attempts = history.attempts(connection, trial_ids)
        for trial_id, attempt in attempts.items():
            try:
                report = finished_report(self._store, trial_id, attempt)
            except BrokenEvidence as error:
                log.warning("%s; it runs again", error.wrong)
                continue
            if report is None or (attempt_now := self.claim(trial_id)) is None:
                continue
            self.finish({**report, "attempt": attempt_now})
            recovered.add(trial_id)
        return recovered
