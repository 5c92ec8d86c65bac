"""How a command ends, and what stops it before any work."""

DONE, SOMETHING_FAILED, REFUSED = 0, 1, 2  # exit status


class Refused(ValueError):  # noqa: N818  reads as the message does
    """The command stops with exit status 2; the message is one line that says why and what to do."""
