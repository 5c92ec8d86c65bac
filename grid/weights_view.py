"""The table of weights for people and programs."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from components.checkpoints import FETCH, ROOT, WEIGHTS, weights_folder
from grid.weights import here, table

WIDTH = 140


def rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per name: what the table says of it, and where it lies (None: not here)."""
    return [_row(name) for name in names]


def _row(name: str) -> dict[str, Any]:
    path, entry = here(name), table().get(name)
    return {
        "name": name,
        "model": entry.model if entry else None,
        "variant": entry.variant if entry else None,
        "bytes": entry.bytes if entry else None,
        "licence": entry.licence if entry else None,
        "source": f"{entry.source.kind} {entry.source.address}" if entry else None,
        "path": str(path) if path else None,
    }


def show_rows(found: Sequence[dict[str, Any]], console: Console) -> None:
    """The rows as a table, and what gets the missing ones."""
    shown = Table(box=None, pad_edge=False)
    for header in ("name", "model", "MiB", "licence", "here"):
        shown.add_column(header, no_wrap=True)
    for row in found:
        model = f"{row['model']} {row['variant']}".strip() if row["model"] else "-"
        size = f"{row['bytes'] / 2**20:.0f}" if row["bytes"] else "-"
        shown.add_row(row["name"], model, size, row["licence"] or "-", _place(row["path"]))
    console.width = max(console.width, WIDTH)  # names are there to be copied: whole, wherever they are shown
    console.print(shown)
    missing = sum(row["path"] is None for row in found)
    folder = weights_folder()
    console.print(
        f"{WEIGHTS}: {folder or 'not set'}; {len(found) - missing} of {len(found)} are here", markup=False
    )
    if missing:
        console.print(f"to get one: {FETCH} NAME", markup=False)


def _place(path: str | None) -> str:
    if path is None:
        return "no"
    return "in the repository" if path.startswith(f"{ROOT}/") else "yes"
