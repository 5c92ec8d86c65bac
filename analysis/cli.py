"""The commands of `python -m analysis`, from the files that have them."""

from analysis.commands import cost, images, knobs, nested, stored
from analysis.commands.app import app

__all__ = ["app", "cost", "images", "knobs", "nested", "stored"]
