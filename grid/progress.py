"""Progress of long work: a live bar in a terminal, plain lines in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grid.free_text import presentable

LOG_EVERY = 10.0  # seconds between the lines of one task in a log


def console(stderr: bool = False) -> Console:
    """Standard output, or error; without colours and with no fixed width where it is not a terminal."""
    return Console(soft_wrap=True, highlight=False, stderr=stderr)


class Display:
    """One task after the other: what it is, how far, how fast, how long still, and what came of it.

    On standard error where standard output is the command's answer.
    """

    def __init__(self, stderr: bool = False) -> None:
        self.console = console(stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._live = self.console.file.isatty()

    def __enter__(self) -> "Display":
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more is shown, whatever goes on; the terminal is as it was."""
        if self._live:
            self._bar.stop()
        self.console.quiet = True

    def say(self, line: str) -> None:
        """One line, without secrets."""
        self.console.print(presentable(line), markup=False)

    def task(self, what: str, total: int, unit: str, patience: float = 0.0) -> "Task":
        """A task of `total` units. It is shown when it has lasted `patience` seconds; if it is over before,
        not at all."""
        return Task(self, self._bar if self._live else None, what, total, unit, patience)


class Task:
    """The progress of one task."""

    def __init__(
        self, display: Display, bar: Progress | None, what: str, total: int, unit: str, patience: float
    ) -> None:
        self._display, self._bar, self._what = display, bar, what
        self._total, self._unit, self._patience = total, unit, patience
        self._start = self._logged = time.monotonic()
        self._first: int | None = None
        self._row = bar.add_task(what, total=total, note="", visible=patience <= 0) if bar else None

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return time.monotonic() - self._start

    def update(self, done: int, note: str = "") -> None:
        """`done` units of all are finished."""
        if self._first is None:
            self._first = done
        if self._bar is not None and self._row is not None:
            is_long = self.seconds >= self._patience
            self._bar.update(self._row, completed=done, note=note or self._rate(done), visible=is_long)
            return
        if time.monotonic() - self._logged >= LOG_EVERY:
            self._logged = time.monotonic()
            self._display.say(
                f"{self._what}: {done}/{self._total} {note or self._rate(done)}{self._eta(done)}"
            )

    def count(self, done: int, total: int) -> None:
        """`done` of `total` units are finished, where the total was not known before."""
        self._total = total
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, total=total)
        self.update(done)

    def _rate(self, done: int) -> str:
        return f"{(done - (self._first or 0)) / max(self.seconds, 1e-9):.1f} {self._unit}/s"

    def _eta(self, done: int) -> str:
        made = done - (self._first or 0)
        if made <= 0:
            return ""
        return f", {(self._total - done) * self.seconds / made:.0f} s left"

    def finish(self, summary: str) -> None:
        """The task is over; `summary` says what came of it."""
        if self._bar is not None and self._row is not None:
            self._bar.remove_task(self._row)
        if self.seconds >= self._patience:
            self._display.say(f"{self._what}: {summary}")
