"""The list of weights: what the specs need, what of it is here, and how it is shown."""

from pathlib import Path
from typing import Any

from rich.table import Table

from components.models.weights.checkpoints import FETCH, ROOT, WEIGHTS, weights_folder
from grid.inputs.weights import fetched, here, names_in, table
from grid.progress import console
from grid.refused import Refused
from grid.spec.spec import load_spec

WIDTH = 140  # of the list, in characters


def names_of(spec: Path | None) -> list[str]:
    """Names of the weights that a spec needs; without one, of all in the table."""
    return list(table() if spec is None else names_in(load_spec(spec)))


def wanted_names(names: list[str] | None, spec: Path | None) -> list[str]:
    """These names and those of the spec; Refused without any."""
    if not names and spec is None:
        raise Refused("which? give names (`python -m grid weights list` has them) or --spec SPEC")
    return list(dict.fromkeys([*(names or ()), *(names_in(load_spec(spec)) if spec else [])]))


def names_here() -> list[str]:
    """Names of the table, and of whatever else was fetched, that are here."""
    folder = weights_folder()
    known = [*table(), *(fetched(folder) if folder and folder.is_dir() else [])]
    return [name for name in dict.fromkeys(known) if here(name)]


def row_of(name: str) -> dict[str, Any]:
    """What the table says of it, and where it lies (None: not here)."""
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


def show(rows: list[dict[str, Any]]) -> None:
    """The list, and what is missing of it."""
    shown = Table(box=None, pad_edge=False)
    for header in ("name", "model", "MiB", "licence", "here"):
        shown.add_column(header, no_wrap=True)
    for row in rows:
        model = f"{row['model']} {row['variant']}".strip() if row["model"] else "-"
        size = f"{row['bytes'] / 2**20:.0f}" if row["bytes"] else "-"
        shown.add_row(row["name"], model, size, row["licence"] or "-", _place(row["path"]))
    output = console()
    output.width = max(output.width, WIDTH)  # names are there to be copied: whole, wherever they are shown
    output.print(shown)
    missing = sum(row["path"] is None for row in rows)
    folder = weights_folder() or "not set"
    output.print(f"{WEIGHTS}: {folder}; {len(rows) - missing} of {len(rows)} are here", markup=False)
    if missing:
        output.print(f"to get one: {FETCH} NAME", markup=False)


def _place(path: str | None) -> str:
    if path is None:
        return "no"
    return "in the repository" if path.startswith(f"{ROOT}/") else "yes"
