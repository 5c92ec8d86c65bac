"""The sign of life of a launch, by which others tell a running trial from one whose driver died."""

import threading
from contextlib import suppress

from sqlalchemy.exc import OperationalError

from grid.results.store import ResultsStore

SECONDS = 20  # a launch without a sign for a minute counts as dead


class Heartbeat:
    """Tells the results store every SECONDS that this launch lives. A store that is away for a moment is
    asked again at the next beat; the driver's own writes say so if it is lost."""

    def __init__(self, results: ResultsStore, launch_id: int) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(results, launch_id), daemon=True)
        self._thread.start()

    def _beat(self, results: ResultsStore, launch_id: int) -> None:
        while not self._stop.wait(SECONDS):
            with suppress(OperationalError):
                results.beat(launch_id)

    def stop(self) -> None:
        """No more beats."""
        self._stop.set()
        self._thread.join()
