"""`python -m grid weights`: what the specs need, what is here, and getting it."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from components.models.weights.checkpoints import FETCH, ROOT, WEIGHTS, weights_folder
from grid.inputs.weights import check, expected_sums, fetched, here, names_in, table
from grid.progress import Display, console
from grid.refused import Refused
from grid.run import SOMETHING_FAILED
from grid.spec.spec import load_spec

WIDTH = 140  # of the list, in characters

weights = typer.Typer(
    no_args_is_help=True,
    help="Weights: what the specs need, what is here, and getting it.\n\n"
    "They lie in CONCEPTGRID_WEIGHTS, under the names that specs give as `checkpoint:`; weights.yaml lists "
    "them with source, licence and sha256. Fetch before a run: workers never use the network.\n\n"
    "Start with `python -m grid weights list experiments/segmil_waterbirds.yaml`, then "
    "`export CONCEPTGRID_WEIGHTS=~/weights` and `python -m grid weights fetch --spec` with the same spec.",
)
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="as `weights list` prints them")]
OfSpec = Annotated[Path | None, typer.Option("--spec", metavar="SPEC", help="all that this spec needs")]


@weights.command("list")
def weights_list(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="only what this spec needs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for programs")] = False,
) -> None:
    """The table of weights: variant, size, licence, and whether they are here."""
    rows = [_row(name) for name in (table() if spec is None else names_in(load_spec(spec)))]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows)


@weights.command("fetch")
def weights_fetch(
    names: Names = None,
    spec: OfSpec = None,
    to: Annotated[Path | None, typer.Option(help="folder, where CONCEPTGRID_WEIGHTS is not set")] = None,
    again: Annotated[bool, typer.Option(help="also what is here: replaced once the new is verified")] = False,
) -> None:
    """Gets weights from where their library gets them, verified by sha256; broken off, it goes on.

    `python -m grid weights fetch sam_vit_b_01ec64.pth`, or `--spec experiments/segmil_waterbirds.yaml`.

    Also takes any model/pretrained pair of open_clip (`ViT-L-14/openai`) and any owner/repository of the
    Hugging Face Hub: of these, safetensors and their configuration, no pickles.

    Exit status 1 if one could not be had.
    """
    from grid.inputs.weights_fetch import FetchError, entry_of, fetch

    folder = to.expanduser().resolve() if to else weights_folder()
    if folder is None:
        raise Refused(f"where to? set {WEIGHTS} to a folder for weights, or give --to FOLDER")
    wanted = _named(names, spec)
    for name in wanted:
        entry_of(name)
    failed = 0
    with Display() as display:
        for name in wanted:
            try:
                fetch(name, folder, display, again)
            except FetchError as error:
                failed += 1
                typer.echo(f"not fetched: {error}", err=True)
    if folder != weights_folder() and failed < len(wanted):
        typer.echo(f"to use them: export {WEIGHTS}={folder}")
    sys.exit(SOMETHING_FAILED if failed else 0)


@weights.command("check")
def weights_check(names: Names = None, spec: OfSpec = None) -> None:
    """Reads weights and compares them with their published or recorded sha256; without names, all that are
    here. Exit status 1 if one is wrong or missing."""
    wanted = _named(names, spec) if names or spec else _all_here()
    problems = 0
    for name in wanted:
        wrong, path = check(name), here(name)
        problems += bool(wrong)
        sure = "as published or recorded" if path and expected_sums(name, path) else "nothing to compare with"
        typer.echo(f"WRONG   {wrong}" if wrong else f"ok      {name}: {sure}")
    typer.echo(f"{len(wanted)} checked, {problems} wrong or missing")
    sys.exit(SOMETHING_FAILED if problems else 0)


def _named(names: list[str] | None, spec: Path | None) -> list[str]:
    if not names and spec is None:
        raise Refused("which? give names (`python -m grid weights list` has them) or --spec SPEC")
    return list(dict.fromkeys([*(names or ()), *(names_in(load_spec(spec)) if spec else [])]))


def _all_here() -> list[str]:
    """Names of the table, and of whatever else was fetched, that are here."""
    folder = weights_folder()
    known = [*table(), *(fetched(folder) if folder and folder.is_dir() else [])]
    return [name for name in dict.fromkeys(known) if here(name)]


def _row(name: str) -> dict[str, Any]:
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


def _show(rows: list[dict[str, Any]]) -> None:
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
