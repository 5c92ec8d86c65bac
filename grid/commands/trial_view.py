"""What `show` prints of a trial."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grid.results.reads import ACCURACIES, stopped_line

FACTS = ("id", "method", "dataset", "seed", "status", "attempt", "seconds", "n_failed", "git_commit", "host")
PLACES = ("artifacts_uri", "mlflow_run_id", "error", "warning")
WIDTH = 1000  # columns: nothing is cut
Number = Mapping[str, Any]


def print_trial(trial: Mapping[str, Any], every: bool) -> None:
    """Facts, configuration, accuracies by selection, and on the test split by group.

    With `every`, all numbers but those of training curves.
    """
    for name in (*FACTS, *PLACES):
        if trial[name] is not None:
            typer.echo(f"{name}: {_short(trial[name]) if name == 'seconds' else trial[name]}")
    if stopped := stopped_line(trial):
        typer.echo(f"stopped: {stopped}; it has its curve alone, and no final numbers")
    for experiment, variant in trial["variants"].items():
        typer.echo(f"variant in {experiment}: {variant}")
    typer.echo("configuration: " + ", ".join(f"{p['name']}={p['value']}" for p in trial["params"]))
    numbers = [metric for metric in trial["metrics"] if metric["step"] is None]
    if every:
        rows = [[m["name"], m["split"], m["group_name"], m["selection"], _short(m["value"])] for m in numbers]
        _print(["metric", "split", "group", "selection", "value"], rows)
        return
    main = [m for m in numbers if m["group_name"] == "all" and m["name"] in ACCURACIES]
    groups = [m for m in numbers if m["name"] == "group_accuracy" and m["split"] == "test"]
    _by_selection(["split", "accuracy"], main, lambda m: (m["split"], m["name"].removesuffix("_accuracy")))
    _by_selection(["group, test"], groups, lambda m: (m["group_name"],))
    left = len(numbers) - len(main) - len(groups)
    if left:
        typer.echo(f"{left} more numbers: python -m grid show {trial['id'][:8]} --all")


def _by_selection(
    head: Sequence[str], numbers: Sequence[Number], row_of: Callable[[Number], tuple[str, ...]]
) -> None:
    """A row for each key that `row_of` gives a number, a column for each selection."""
    selections = list(dict.fromkeys(m["selection"] for m in numbers))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for number in numbers:
        cells.setdefault(row_of(number), {})[number["selection"]] = _short(number["value"])
    rows = ([*key, *(cells[key].get(one, "") for one in selections)] for key in sorted(cells))
    if cells:
        _print([*head, *selections], rows)


def _short(value: float | None) -> str:
    """Three decimals; what is no number says so."""
    return "not a number" if value is None else f"{value:.3f}"


def _print(head: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=WIDTH, color_system=None).print(table)
