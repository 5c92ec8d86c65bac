"""`python -m analysis …`."""

from analysis.cli import app
from grid.refused import plain_end

with plain_end():
    app(prog_name="python -m analysis")
