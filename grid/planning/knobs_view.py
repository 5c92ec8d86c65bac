"""What knobs cost, for people."""

from collections.abc import Iterator

from rich.console import Console

from grid.planning.knobs import Explanation, KnobCost, Parted

VALUES, PARTED = 48, 8  # characters of a knob's values, and rows of what sets stages apart, that are shown


def show_knobs(told: Explanation, console: Console) -> None:
    """A line for each swept knob, then what sets stages apart, and what would leave a tenth of the passes."""
    for line in _lines(told):
        console.print(line, markup=False, soft_wrap=True)


def _lines(told: Explanation) -> Iterator[str]:
    if not told.knobs:
        yield "nothing is swept: one configuration, one seed"
        return
    rows = [("knob", "values", "trials", "stages", "passes", "changes"), *map(_row, told.knobs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    yield from map(_parted, told.parted[:PARTED])
    every, left = told.passes
    if told.cheaper:
        knobs = ", ".join(told.cheaper)
        yield f"ten times cheaper: one value each of {knobs} leaves {left} of {every} passes"


def _row(knob: KnobCost) -> tuple[str, ...]:
    values = knob.values if len(knob.values) <= VALUES else knob.values[: VALUES - 1] + "…"
    changes = ", ".join(knob.stages) or "no stage: read by the trial"
    when = f" ({knob.when})" if knob.when else ""
    return (knob.place, values, *map(_times, (knob.trials, knob.stage_runs, knob.passes)), changes + when)


def _times(factor: float | None) -> str:
    """How many times as many; nothing of one, and of what is not known."""
    return "" if factor in (None, 1) else f"x {factor:g}"


def _parted(part: Parted) -> str:
    saved = f", and {part.passes} passes less" if part.passes else ""
    return f"{part.stages} {part.kind} would be {part.without}{saved} if {part.parameter} were one value"
