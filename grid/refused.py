"""What stops a command before any work."""


class Refused(ValueError):  # noqa: N818  reads as the message does
    """The command stops with exit status 2; the message is one line that says why and what to do."""
