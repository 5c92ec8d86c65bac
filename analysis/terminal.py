"""Tables and JSON on standard output."""

import json
import math
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

PIPE_WIDTH = 1000  # columns: rows are never cut for a program that reads them


def with_interval(table: "pd.DataFrame", mean: str, low: str, high: str, sign: str = "") -> list[str]:
    """`0.712 [0.690, 0.734]`; the mean alone where one seed gives no interval."""
    return [
        number(m, sign) + ("" if _missing(lo) else f" [{lo:{sign}.3f}, {hi:{sign}.3f}]")
        for m, lo, hi in zip(table[mean], table[low], table[high], strict=True)
    ]


def number(value: float | None, sign: str = "") -> str:
    """Three decimals, which suit fractions; empty where there is no number."""
    return "" if _missing(value) else f"{value:{sign}.3f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def print_json(rows: list[dict[str, Any]]) -> None:
    """A list of row objects; what is not a number is null."""
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    print(json.dumps(plain, allow_nan=False))


def _plain(value: Any) -> Any:
    """As JSON has it: NumPy's and Postgres's numbers are numbers, NaN is null, the rest text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def shown(value: Any) -> str:
    """A value of a query's row for people."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


def print_table(title: str, columns: dict[str, Any], below: Iterable[str] = ()) -> None:
    """A table of text and the lines below it; in a pipe without colours, and never cut to a width."""
    piped = not sys.stdout.isatty()
    console = Console(width=PIPE_WIDTH, color_system=None) if piped else Console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(Text(name))  # no markup, wherever the text comes from
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(str(value)) for value in row))
    if title:
        console.print(Text(title, style="dim"))
    console.print(table if table.row_count else Text("no rows"))
    for line in below:
        console.print(Text(line, style="dim"))
