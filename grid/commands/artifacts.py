"""`python -m grid artifacts`: what the artifact store holds, whether it is whole, and what could go."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from grid.commands.options import AsJson, Results, Storage
from grid.refused import SOMETHING_FAILED

if TYPE_CHECKING:
    from grid.commands.artifact_care import Held
    from grid.stores.world import World

artifacts = typer.Typer(no_args_is_help=True, help="What the artifact store holds.")
Days = Annotated[float, typer.Option(help="days since the last use")]


@artifacts.command("ls")
def artifacts_ls(storage: Storage = None, results: Results = None, as_json: AsJson = False) -> None:
    """Every artifact: kind, data set, images, failures, size, last use."""
    from grid.stores.world import open_world

    _print_artifacts(list(_held(open_world(results, storage))), as_json)


@artifacts.command("verify")
def artifacts_verify(storage: Storage = None, results: Results = None) -> None:
    """Reads every finished artifact and compares it with its manifest. Exit status 1 if one is broken."""
    from grid.stores.world import open_world

    store = open_world(results, storage).store
    keys = [key for key in store.artifact_keys() if store.has(key)]
    problems = [problem for key in keys for problem in store.problems(key)]
    typer.echo("\n".join([*problems, f"{len(keys)} artifacts, {len(problems)} problems"]))
    sys.exit(SOMETHING_FAILED if problems else 0)


@artifacts.command("gc")
def artifacts_gc(
    older_than: Days = 30.0,
    delete: Annotated[bool, typer.Option(help="remove them; without, they are listed")] = False,
    storage: Storage = None,
    results: Results = None,
) -> None:
    """Artifacts that no trial of this results store needs and that were not used for long.

    Other results stores that share the artifact store are not seen: what only they need is listed too.
    """
    from grid.commands.artifact_care import removable
    from grid.stores.world import open_world

    world = open_world(results, storage)
    found = list(removable(iter(_held(world)), older_than))
    _print_artifacts(found, as_json=False)
    for artifact in found if delete else []:
        world.store.delete(artifact.key)
    verb = "removed" if delete else "could go (--delete removes them)"
    typer.echo(f"{len(found)} artifacts, {sum(a.bytes for a in found) / 2**20:.1f} MiB {verb}")
    typer.echo("note: results stores other than this one are not seen")


def _held(world: "World") -> list["Held"]:
    from grid.commands.artifact_care import held
    from grid.results.history import stage_keys_in_use

    with world.results.reading() as connection:
        return list(held(world.store, stage_keys_in_use(connection)))


def _print_artifacts(found: list["Held"], as_json: bool) -> None:
    rows = [artifact.as_row() for artifact in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        used = (row["last_used"] or "never noted")[:19]
        images = "-" if not row["images"] else f"{row['images']} images, {row['failed']} failed"
        typer.echo(
            f"{row['key']} {row['kind']} {row['dataset'] or '-'} {images} "
            f"{row['bytes'] / 2**20:.1f} MiB, used {used}, {'needed' if row['needed'] else 'not needed'}"
        )
