"""The commands of `python -m grid`. Exit status: 0 all done; 1 something failed or is missing; 2 refused."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.commands.artifacts import artifacts
from grid.commands.concepts import concepts
from grid.commands.explain import explain
from grid.commands.options import Address, AsJson, Results, Sets, SpecPath, Storage
from grid.commands.prefer import prefer
from grid.commands.reproduce import reproduce
from grid.commands.weights import weights
from grid.free_text import presentable, redacted
from grid.refused import REFUSED, SOMETHING_FAILED, Refused, plain_end

if TYPE_CHECKING:
    from grid.planning.plan import Plan
    from grid.results.store import ResultsStore
    from grid.spec.spec import Spec
    from grid.stores.world import World

KEPT = "what had finished is in the artifact store: the same command records it, and goes on"
RESTORE = "put a copy of it back, or `sqlite3 FILE .recover` what is left of it"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Concept-based image classification as a grid of experiments on Ray.\n\n"
    "Start with `python -m grid plan experiments/demo.yaml`, then `run` in its place. Places come from "
    "CONCEPTGRID_HOME (default ./runs), CONCEPTGRID_RESULTS_URL, CONCEPTGRID_STORAGE, CONCEPTGRID_DATA, "
    "CONCEPTGRID_WEIGHTS and MLFLOW_TRACKING_URI.",
)


@app.command("plan")
def plan_command(
    spec: SpecPath,
    set_: Sets = None,
    storage: Storage = None,
    results: Results = None,
    as_json: AsJson = False,
    explain: Annotated[
        bool, typer.Option(help="what each swept knob multiplies and changes, and what would cost less")
    ] = False,
) -> None:
    """What a run would do: trials, done, distinct stages, cached, model passes. Runs nothing."""
    from grid.planning.knobs import explained
    from grid.planning.knobs_view import show_knobs
    from grid.planning.plan_view import show_plan
    from grid.progress import console
    from grid.spec.spec import load_spec
    from grid.stores.world import open_world

    loaded = load_spec(spec, tuple(set_ or ()))
    plan = _plan(loaded, open_world(results, storage))
    told = explained(plan) if explain else None
    if as_json:
        facts = plan.as_json() | ({} if told is None else {"explanation": told.as_json()})
        typer.echo(json.dumps(facts, indent=1))
        return
    show_plan(plan, console())
    if told is not None:
        show_knobs(told, console())


def _plan(spec: "Spec", world: "World") -> "Plan":
    from grid.inputs.datasets import read, sources
    from grid.planning.planning import plan_of
    from grid.progress import Display

    with Display(stderr=True) as display:
        datasets = [read(source, world.hashes, display) for source in sources(spec)]
    return plan_of(spec, datasets, world)


@app.command("run")
def run_command(
    spec: SpecPath,
    set_: Sets = None,
    storage: Storage = None,
    results: Results = None,
    address: Address = None,
    on_failed: Annotated[
        str | None,
        typer.Option(help="images that failed: `wrong` (in the denominator) or `drop` (flagged)"),
    ] = None,
    rerun: Annotated[bool, typer.Option(help="run trials again that are done")] = False,
    recompute: Annotated[
        bool, typer.Option(help="compute stages again whose artifacts lost something; else they are refused")
    ] = False,
) -> None:
    """Runs the experiment. The same command again runs only what is missing.

    Ctrl-C stops it, and so does `kill PID`: what runs is marked interrupted. In the background of a shell
    (`&`), which has SIGINT ignored, it is `kill PID` alone.
    """
    from grid.run import Request, run
    from grid.spec.spec import load_spec
    from grid.stores.home import tracking_uri
    from grid.stores.world import open_world
    from grid.tracking.mirror import main_metrics_page

    overrides = [*(set_ or ()), *([f"on_failed={on_failed}"] if on_failed else [])]
    loaded = load_spec(spec, tuple(overrides))
    mirrored = tracking_uri()
    world = open_world(results, storage)
    status = run(Request(loaded, world, address, mirrored, recompute, rerun))
    if status == 0:
        typer.echo(f"results: python -m analysis report {loaded.name}")
        mlflow = redacted(mirrored)
        served = mlflow.startswith(("http://", "https://"))
        how = mlflow if served else f"mlflow ui --backend-store-uri {shlex.quote(mlflow)}"
        typer.echo(f"MLflow UI: {how}")
        if page := main_metrics_page(world.results, loaded.name, mirrored):
            typer.echo(f"main metrics: {mlflow.rstrip('/') if served else 'http://127.0.0.1:5000'}/{page}")
    sys.exit(status)


@app.command("submit")
def submit_command(
    spec: SpecPath,
    address: Annotated[str, typer.Option(help="the cluster's job server")] = "http://127.0.0.1:8265",
    python: Annotated[str, typer.Option(help="interpreter on the cluster")] = sys.executable,
    set_: Sets = None,
    wait: Annotated[bool, typer.Option(help="follow the log; exit with the job's outcome")] = True,
) -> None:
    """Runs the experiment as a Ray job, with this commit recorded and the CONCEPTGRID_ places passed on."""
    from grid.commands.submit import submit
    from grid.spec.spec import load_spec

    load_spec(spec, tuple(set_ or ()))
    arguments = [part for override in set_ or () for part in ("--set", override)]
    sys.exit(submit(spec, arguments, address, python, wait))


@app.command("doctor")
def doctor_command(
    spec: SpecPath,
    set_: Sets = None,
    storage: Storage = None,
    results: Results = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """What the spec needs and what of it is missing here: weights, data, GPUs, stores, services, versions;
    each with the command that mends it. Exit status 1 if something is missing."""
    from components.models.weights.checkpoints import FETCH
    from grid.commands.doctor import Places, fetchable, findings
    from grid.spec.spec import load_spec

    found = list(findings(load_spec(spec, tuple(set_ or ())), Places(results, storage, address)))
    missing = [finding for finding in found if not finding.ok]
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in found], indent=1))
        sys.exit(SOMETHING_FAILED if missing else 0)
    for finding in found:
        typer.echo(f"{'ok     ' if finding.ok else 'MISSING'} {finding.check}: {finding.detail}")
        if finding.fix and not finding.ok:
            typer.echo(f"        -> {finding.fix}")
    if missing:
        typer.echo(f"{len(missing)} missing of {len(found)} checked")
    if fetched := fetchable(missing):
        typer.echo(f"all weights at once: {FETCH} {' '.join(fetched)}")
    sys.exit(SOMETHING_FAILED if missing else 0)


def _results(url: str | None) -> "ResultsStore":
    """The results store alone, for commands that answer at once; it must be there."""
    from grid.results.store import ResultsStore
    from grid.stores.home import refuse_throw_away_places, results_url, storage_uri

    refuse_throw_away_places(results_url(url), storage_uri())
    return ResultsStore.open(results_url(url), create=False)


@app.command("status")
def status_command(experiment: str, results: Results = None, as_json: AsJson = False) -> None:
    """Trials by status, failures and warnings with their reasons, what stages found, and the launches of an
    experiment."""
    from grid.results.reads import warned

    summary = _results(results).experiment_summary(experiment)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary["trials"].items()))
    typer.echo(f"experiment {experiment}: {counts}; {summary['seconds']:.1f} s in trials")
    if earlier := summary["earlier"]:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(earlier.items()))
        typer.echo(f"of an earlier form of the spec, out of its tables: {counts}")
    for trial_id, error in summary["failures"].items():
        typer.echo(f"failed {trial_id[:10]}: {(error or '').splitlines()[-1]}")
    for trial_id, names in summary["no_number"].items():
        typer.echo(f"not a number {trial_id[:10]}: {', '.join(names)}")
    for trial_id in summary["to_rerun"]:
        typer.echo(f"to run again {trial_id[:10]}: its numbers stay until then")
    for line in warned(summary["warnings"].values()):
        typer.echo(line)
    for stage in summary["stages"]:
        if stage["found"]:
            typer.echo(f"stage {stage['kind']} of {stage['dataset']} ({stage['key'][:8]}): {stage['found']}")
    for launch in summary["launches"]:
        ended = launch["finished_at"] or "now"
        typer.echo(f"launch {launch['id']}: {launch['status']}, {launch['started_at']} to {ended}")


@app.command("show")
def show_command(
    trial: str,
    every: Annotated[bool, typer.Option("--all", help="every number, not the accuracies alone")] = False,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """One trial, by its id or the beginning of it: configuration, results, where its files are."""
    from grid.commands.trial_view import print_trial

    found = _results(results).trial(trial)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    print_trial(found, every)


@app.command("rerun")
def rerun_command(trial: str, results: Results = None) -> None:
    """The next run of an experiment that has the trial computes it anew; until then its numbers stay."""
    store = _results(results)
    found = store.trial(trial)
    if not store.reopen(found["id"]):
        raise Refused(f"trial {found['id']} is running")
    asking = [name for name in found["experiments"] if name not in found["experiments_earlier"]]
    then = f"run {', '.join(asking)} again" if asking else "but the present spec of no experiment asks for it"
    typer.echo(f"trial {found['id']} is to run again, its numbers stay until then; {then}")


@app.command("trial")
def trial_command(
    spec_and_id: Annotated[str, typer.Argument(metavar="SPEC#ID", help="spec and beginning of a trial's id")],
    storage: Storage = None,
    results: Results = None,
) -> None:
    """Runs one trial in this process, without Ray; its stages must be there. Nothing enters the results
    store: the report is printed."""
    from grid.spec.spec import load_spec
    from grid.stores.world import open_world
    from grid.trials.single import run_single

    path, _, prefix = spec_and_id.partition("#")
    if not prefix:
        raise Refused("give SPEC#ID; `plan --json` and `status` list experiments, `analysis sql` trial ids")
    world = open_world(results, storage)
    typer.echo(json.dumps(run_single(_plan(load_spec(Path(path)), world), prefix, world.store), indent=1))


app.add_typer(artifacts, name="artifacts")
app.add_typer(weights, name="weights")
app.command("concepts")(concepts)
app.command("explain")(explain)
app.command("prefer")(prefer)
app.command("reproduce")(reproduce)


def main() -> None:
    """Runs the command; what is refused is one line on standard error and exit status 2."""
    with plain_end():
        try:
            app(prog_name="python -m grid")
        except (KeyError, IndexError):
            raise  # a defect, not an answer to the user
        except Exception as error:
            said = _refusal(error)
            if said is None:
                raise
            line, status = said
            typer.echo(presentable(line), err=True)
            sys.exit(status)


def _refusal(error: Exception) -> tuple[str, int] | None:
    """The one line and the exit status with which a command ends; None for a defect."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    from components.data.card import CardError
    from components.data.images import DataError
    from components.models.weights.checkpoints import MissingWeights
    from grid.results.database import ResultsUnreachable
    from grid.results.store import IdentityClash
    from grid.spec.spec import SpecError
    from grid.stores.artifacts import BrokenArtifact
    from grid.stores.home import HomeError
    from grid.stores.storage import StorageError

    given = CardError, DataError, MissingWeights, Refused, SpecError
    places = BrokenArtifact, HomeError, IdentityClash, ResultsUnreachable, StorageError
    if isinstance(error, (*given, *places, LookupError)):
        return f"refused: {' '.join(str(error).split())}", REFUSED
    if isinstance(error, OperationalError):
        lost = str(error.orig).splitlines()[0]
        return f"the results store was lost: {lost}; {KEPT}", SOMETHING_FAILED
    if type(error) is DatabaseError:  # its kinds are defects of a statement
        broken = str(error.orig).splitlines()[0]
        return f"the results store cannot be read: {broken}; {RESTORE}", SOMETHING_FAILED
    return None
