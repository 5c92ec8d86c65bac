"""`python -m grid weights`: what the specs need, what is here, and getting it."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.models.weights.checkpoints import WEIGHTS, weights_folder
from grid.refused import SOMETHING_FAILED, Refused

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
    from grid.commands.weights_list import names_of, row_of, show

    rows = [row_of(name) for name in names_of(spec)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        show(rows)


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
    from grid.commands.weights_list import wanted_names
    from grid.inputs.weights_fetch import FetchError, entry_of, fetch
    from grid.progress import Display

    folder = to.expanduser().resolve() if to else weights_folder()
    if folder is None:
        raise Refused(f"where to? set {WEIGHTS} to a folder for weights, or give --to FOLDER")
    wanted = wanted_names(names, spec)
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
        typer.echo(f"to use them: export {WEIGHTS}={shlex.quote(str(folder))}")
    sys.exit(SOMETHING_FAILED if failed else 0)


@weights.command("check")
def weights_check(names: Names = None, spec: OfSpec = None) -> None:
    """Reads weights and compares them with their published or recorded sha256; without names, all that are
    here. Exit status 1 if one is wrong or missing."""
    from grid.commands.weights_list import names_here, wanted_names
    from grid.inputs.weights import check, expected_sums, here

    wanted = wanted_names(names, spec) if names or spec else names_here()
    problems = 0
    for name in wanted:
        wrong, path = check(name), here(name)
        problems += bool(wrong)
        if wrong:
            typer.echo(f"WRONG   {wrong}")
            continue
        sure = "as published or recorded" if path and expected_sums(name, path) else "nothing to compare with"
        typer.echo(f"ok      {name}: {sure}")
    typer.echo(f"{len(wanted)} checked, {problems} wrong or missing")
    sys.exit(SOMETHING_FAILED if problems else 0)
