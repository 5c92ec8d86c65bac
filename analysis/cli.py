"""The commands of `python -m analysis`, by the files that have them."""

from analysis import knob_commands, table_commands
from analysis.app import app

__all__ = ["app", "knob_commands", "table_commands"]
