"""`python -m grid reproduce`: where a trial's numbers came from, and whether they come again here."""

import json
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.commands.options import AsJson, Results, Storage
from grid.refused import SOMETHING_FAILED, Refused

if TYPE_CHECKING:
    from grid.stores.world import World
    from grid.trials.reproduction import Difference, Origin

SHOWN = 20  # numbers that differ


def reproduce(
    trial: Annotated[str, typer.Argument(help="a trial's id, or the beginning of it")],
    run: Annotated[bool, typer.Option("--run", help="run it here, and compare every number")] = False,
    storage: Storage = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """What made a done trial's numbers, beside what is here: commit, packages, machine, data, stages and
    weights; and a spec that asks for it alone, with the commands.

    With --run it is run here, in this process and without Ray, on the artifacts of its stages, and nothing
    enters the results store. Exit status 1 if a number is not the same to the last digit.
    """
    from grid.stores.world import open_world
    from grid.trials.reproduction import differences, origin, run_again

    world = open_world(results, storage, create=False)
    found = origin(world, trial)
    if not run:
        facts = {**_facts(world, found), "spec": _spec(found), "commands": list(_commands(found))}
        typer.echo(json.dumps(facts, indent=1) if as_json else "\n".join(_lines(facts)))
        return
    report = run_again(world, found)
    count, unlike = differences(found, report)
    if as_json:
        told = {"trial": found.trial["id"], "numbers": count, "differences": [vars(one) for one in unlike]}
        typer.echo(json.dumps({**told, "uri": report["uri"]}, indent=1))
    else:
        typer.echo("\n".join(_verdict(found, count, unlike)))
    sys.exit(SOMETHING_FAILED if unlike else 0)


def _facts(world: "World", found: "Origin") -> dict[str, Any]:
    """What is recorded, each beside what is here."""
    from components.data.images import DataError
    from grid.spec.spec import SpecError
    from grid.stores.provenance import commit, versions
    from grid.trials.reproduction import data_here, weights_of

    trial = found.trial
    head, dirty = commit()
    try:
        data_here(world, found)
        data = "the same"
    except (Refused, SpecError, DataError) as error:
        data = str(error)
    recorded, here = json.loads(trial["versions"] or "{}"), versions()
    return {
        "trial": trial["id"],
        "method": trial["method"],
        "dataset": trial["dataset"],
        "seed": trial["seed"],
        "commit": {"git_commit": trial["git_commit"], "git_dirty": trial["git_dirty"]},
        "commit_here": {"git_commit": head, "git_dirty": dirty},
        "packages": recorded,
        "packages_here": {name: here.get(name) for name in recorded if here.get(name) != recorded[name]},
        "machine": {"host": trial["host"], "device": trial["device"]},
        "machine_here": {"host": platform.node()},
        "data_fingerprint": trial["data_fingerprint"],
        "data_here": data,
        "stages": [
            {"name": one["name"], "key": one["stage_key"], "here": world.store.has(one["stage_key"])}
            for one in trial["stages"]
        ],
        "weights": sorted(set(weights_of(world, found))),
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"trial {facts['trial']}: {facts['method']} on {facts['dataset']}, seed {facts['seed']}"
    yield f"commit: {_commit(facts['commit'])}; here: {_commit(facts['commit_here'])}"
    yield "packages: " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    others = [f"{name} {version or 'is not there'}" for name, version in facts["packages_here"].items()]
    yield f"  here: {', '.join(others) or 'the same'}"
    machine = facts["machine"]
    yield f"machine: {machine['host']}, {machine['device']}; here: {facts['machine_here']['host']}"
    yield f"data: {facts['data_fingerprint']}; here: {facts['data_here']}"
    for stage in facts["stages"]:
        yield f"stage {stage['name']}: {stage['key']}{'' if stage['here'] else ', whose artifact is gone'}"
    for kind, content in facts["weights"]:
        yield f"weights of {kind}: {content}"
    yield ""
    yield from facts["commands"]


def _commit(told: dict[str, Any]) -> str:
    return (told["git_commit"] or "not known") + (", with changed files" if told["git_dirty"] else "")


def _spec(found: "Origin") -> str:
    import yaml

    content = found.spec.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def _commands(found: "Origin") -> Iterator[str]:
    trial, name = found.trial, f"{found.spec.name}.yaml"
    if trial["git_commit"]:
        yield f"git checkout {trial['git_commit']}"
    yield f"cat > {name} <<'END'"
    yield from _spec(found).splitlines()
    yield "END"
    yield f"python -m grid trial {name}#{trial['id']}  # on the artifacts of its stages, or"
    yield f"CONCEPTGRID_HOME=another python -m grid run {name}  # from the images on"


def _verdict(found: "Origin", count: int, unlike: "list[Difference]") -> Iterator[str]:
    if not unlike:
        yield f"trial {found.trial['id']}: all {count} numbers are the same here, to the last digit"
        return
    yield f"trial {found.trial['id']}: {len(unlike)} of {count} numbers are not the same here:"
    for one in unlike[:SHOWN]:
        place = f"{one.name} ({one.split}, {one.group}, {one.selection})"
        yield f"  {place}: {_number(one.stored)} stored, {_number(one.here)} here"
    if len(unlike) > SHOWN:
        yield f"  and {len(unlike) - SHOWN} more that differ less: --json has all"


def _number(value: float | None) -> str:
    return "no number" if value is None else repr(value)
