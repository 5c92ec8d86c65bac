"""Answers on standard output: a table for people, or JSON, CSV, Markdown or LaTeX."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.answer import Answer

if TYPE_CHECKING:
    import pandas as pd


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


def shown(value: Any) -> str:
    """A value of a query's row for people."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


def print_answer(answer: Answer, form: str = "table") -> None:
    """`form` is table, json, csv, markdown or latex."""
    prints = {
        "table": _print_table,
        "json": _print_json,
        "csv": _print_csv,
        "markdown": _print_markdown,
        "latex": _print_latex,
    }
    prints[form](answer)


def _print_json(answer: Answer) -> None:
    """A list of row objects; what is not a number is null."""
    print(json.dumps([_plain_row(row) for row in answer.rows], allow_nan=False))


def _print_csv(answer: Answer) -> None:
    writer = csv.DictWriter(sys.stdout, answer.fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain_row(row) for row in answer.rows)


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """As JSON has it: NumPy's and Postgres's numbers are numbers, NaN is null, the rest text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def _print_markdown(answer: Answer) -> None:
    rows = [list(answer.columns), ["---"] * len(answer.columns), *_cells(answer)]
    for line in (answer.title, ""):
        print(line)
    for row in rows:
        print("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in row) + " |")
    for line in answer.below:
        print(f"\n{line}")


def _print_latex(answer: Answer) -> None:
    """booktabs; title and notes are comments."""
    import pandas as pd

    table = pd.DataFrame(_cells(answer), columns=[_one_line(name) for name in answer.columns])
    print(f"% {_one_line(answer.title)}")
    print("% needs \\usepackage{booktabs}; other letters than ASCII may need lualatex")
    latex = table.to_latex(index=False, escape=True, column_format="l" * len(answer.columns))
    print(re.sub(r"^\[", "{[}", latex, flags=re.M).strip())  # after \\, a bracket would be its argument
    for line in answer.below:
        print(f"% {_one_line(line)}")


def _padded(answer: Answer) -> Iterator[str]:
    """The table in lines as Rich makes them, which takes a millisecond a row."""
    rows = [[*answer.columns], *_cells(answer)]
    widths = [max(map(cell_len, column)) + 2 for column in zip(*rows, strict=True)]
    if answer.title:
        yield answer.title
    if len(rows) == 1:
        yield "no rows"
    else:
        for row in rows:
            cells = zip(row, widths, strict=True)
            yield "".join(cell + " " * (width - cell_len(cell)) for cell, width in cells)
    yield from answer.below


def _cells(answer: Answer) -> list[list[str]]:
    return [[_one_line(cell) for cell in row] for row in zip(*answer.columns.values(), strict=True)]


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())


def _print_table(answer: Answer) -> None:
    """A table of text and the lines below it; in a pipe without colours, and never cut to a width."""
    if not sys.stdout.isatty():
        print("\n".join(_padded(answer)))
        return
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in answer.columns:
        table.add_column(Text(name))  # no markup, wherever the text comes from
    for row in zip(*answer.columns.values(), strict=True):
        table.add_row(*(Text(str(value)) for value in row))
    if answer.title:
        console.print(Text(answer.title, style="dim"))
    console.print(table if table.row_count else Text("no rows"))
    for line in answer.below:
        console.print(Text(line, style="dim"))
