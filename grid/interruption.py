"""Stopping a command politely."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """A polite kill (`kill`, `ray job stop`, a scheduler) is as Ctrl-C: also in the background of a shell,
    which starts what it runs with `&` with SIGINT ignored."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
