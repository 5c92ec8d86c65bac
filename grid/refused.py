"""How a command ends, and what stops it before any work."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from grid.free_text import presentable

DONE, SOMETHING_FAILED, REFUSED = 0, 1, 2  # exit status


class Refused(ValueError):  # noqa: N818  reads as the message does
    """The command stops with exit status 2; the message is one line that says why and what to do."""


@contextmanager
def plain_end() -> Iterator[None]:
    """Around a whole command: a character that the terminal lacks is shown as an escape, and a defect as a
    traceback without secrets, with the exit status of something that failed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not so where a test or a notebook has replaced it
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except Exception:
        sys.stderr.write(presentable(traceback.format_exc()))
        sys.exit(SOMETHING_FAILED)
