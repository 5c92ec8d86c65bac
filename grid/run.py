"""`python -m grid run`: everything between a spec on disk and its numbers in the results store."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from grid.inputs.datasets import make, read, sources
from grid.inputs.references import references
from grid.interruption import terminated_as_interrupted
from grid.planning.front import as_csv, front
from grid.planning.plan import ENDED, Plan
from grid.planning.plan_view import show_plan
from grid.planning.planned import PlannedTrial
from grid.planning.planning import plan_of
from grid.progress import Display
from grid.refused import DONE, SOMETHING_FAILED, Refused
from grid.results import history
from grid.results.reads import warned
from grid.spec.spec import Spec
from grid.stores.provenance import command_line, stated_commit
from grid.stores.world import World
from grid.tracking.mirror import Mirror, needs_mirror
from grid.trials.recorder import Recorder


@dataclass(frozen=True)
class Request:
    """What a user asks for: a spec, where its world is, and the cluster's address (None: this machine).
    recompute: whether stages whose artifacts are broken are computed again, or refused. rerun: whether trials
    that are done run again."""

    spec: Spec
    world: World
    address: str | None
    tracking_uri: str
    recompute: bool = False
    rerun: bool = False


def run(request: Request) -> int:
    """Runs what is missing of the experiment; returns the exit status.

    Raises Refused, SpecError or ClusterError before any work.
    """
    spec, world = request.spec, request.world
    with Display() as display:
        plan = _resolved_plan(spec, world, display)
        if request.rerun:
            for trial in plan.asked:
                world.results.reopen(trial.id)
            plan = plan_of(spec, plan.datasets, world)
        if recomputed(plan, world, request.recompute, display):
            plan = plan_of(spec, plan.datasets, world)
        world.results.heal()
        world.results.record_references([row for data in plan.datasets for row in references(data.name)])
        if not plan.searches:
            world.results.enter(spec.name, [trial.entry() for trial in plan.trials])
        world.results.set_form(spec.name, [trial.id for trial in plan.asked])
        show_plan(plan, display.console)
        if plan.to_run:
            for trial_id in plan.to_go_on:
                world.results.reopen(trial_id)
            return _launch(request, plan, display)
        stopped = f", or were stopped early ({plan.stopped})" if plan.stopped else ""
        display.say(f"nothing to run: all trials are done{stopped}")
        if needs_mirror(world.results, spec.name, request.tracking_uri):
            with _mirror(request):
                pass
        return SOMETHING_FAILED if _is_blind(plan, world, display) else DONE


def _resolved_plan(spec: Spec, world: World, display: Display) -> Plan:
    """The plan with nothing missing: what generators can draw is drawn, once all else is there."""
    found = sources(spec)
    datasets = [read(source, world.hashes, display) for source in found]
    plan = plan_of(spec, datasets, world)
    undrawn = {d.missing: s for d, s in zip(datasets, found, strict=True) if s.generator and d.missing}
    missing = [name for name in plan.unresolved if name not in undrawn]
    if missing:
        raise Refused("missing:\n  " + "\n  ".join(missing))
    if not plan.unresolved:
        return plan
    for source in undrawn.values():
        task = display.task(f"drawing {source.label}", 1, "images")
        make(source, task.count, os.cpu_count() or 1)
        task.finish(f"{source.root} in {task.seconds:.1f} s")
    return plan_of(spec, [read(source, world.hashes, display) for source in found], world)


def recomputed(plan: Plan, world: World, recompute: bool, display: Display) -> bool:
    """Makes the broken artifacts that trials would read unfinished; whether there are any. Refused, unless
    these stages are to be computed again."""
    if plan.broken and not recompute:
        raise Refused("; ".join(plan.broken.values()))
    for key, problem in plan.broken.items():
        display.say(f"computed again: {problem.rpartition('; ')[0]}")
        world.store.withdraw(key)
    return bool(plan.broken)


def _launch(request: Request, plan: Plan, display: Display) -> int:
    world, spec = request.world, request.spec
    launch_id = world.results.begin_launch(
        spec.name,
        spec=yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False),
        plan=plan.as_json(),
        command=command_line(),
        **stated_commit(),
    )
    status = "failed"
    with terminated_as_interrupted(), _mirror(request) as mirror:
        recorder = Recorder(world.results, world.store, launch_id, mirror.submit)
        files: dict[str, str] = {}

        def lost(reason: str) -> None:
            """Ends the process: Ray would soon, with nothing written, and its calls may never return."""
            recorder.interrupt()
            world.results.end_launch(launch_id, "interrupted")
            display.say(f"the Ray cluster is gone ({reason}); the same command goes on where it stopped")
            display.close()
            mirror.submit_launch(launch_id, {})
            mirror.close()
            os._exit(SOMETHING_FAILED)

        try:
            failed = _work(request, plan, recorder, launch_id, display, lost, mirror, files)
            status = "failed" if failed else "done"
        except (KeyboardInterrupt, SystemExit):  # the latter by Ray's own handler of a polite kill
            status = "interrupted"
            display.say("interrupted; the same command goes on where it stopped")
        finally:
            recorder.interrupt()
            world.results.end_launch(launch_id, status)
            mirror.submit_launch(launch_id, files)
    return DONE if status == "done" else SOMETHING_FAILED


@contextmanager
def _mirror(request: Request) -> Iterator[Mirror]:
    mirror = Mirror(request.tracking_uri, request.world.results, request.spec.name)
    try:
        mirror.submit_heal()
        yield mirror
    finally:
        mirror.close()


def _work(
    request: Request,
    plan: Plan,
    recorder: Recorder,
    launch_id: int,
    display: Display,
    lost: Callable[[str], None],
    mirror: Mirror,
    files: dict[str, str],
) -> bool:
    """Stages, then trials, on a cluster; whether anything failed or is missing in the end. files: for the
    launch's run in the mirror, to be filled."""
    from grid.planning.planning import curves_of, proposals_of
    from grid.stages.cluster import cluster, preflight
    from grid.stages.runs import run_stages
    from grid.trials.heartbeat import Heartbeat
    from grid.trials.launch import run_trials

    world = request.world
    recovered = recorder.recover(trial.id for trial in plan.to_run) if not plan.searches else set()
    if recovered:
        display.say(f"{len(recovered)} trials had ended before their driver died: recorded")
    trials = [trial for trial in plan.to_run if trial.id not in recovered]
    heartbeat = Heartbeat(world.results, launch_id)
    try:
        # again, now that Ray is up: its own handler ends the process
        with cluster(request.address, lost) as resources, terminated_as_interrupted():
            preflight(plan.spec, plan.needed_stages(trials), trials, resources)
            failed = run_stages(plan, trials, world.store, world.results, resources, display)
            runnable = _without_failed_stages(trials, failed, recorder)
            proposals = proposals_of(plan, runnable, world)
            total = plan.left if plan.searches else len(trials)
            name, curves = f"{plan.spec.name}-{launch_id}", curves_of(plan.spec, world)
            run_trials(plan, proposals, recorder, world.store, resources, display, total, name, curves)
    finally:
        heartbeat.stop()
    _mark_used(plan, world)
    files |= _front(plan, world, display, mirror)
    return _report_failures(plan, recorder, world, display)


def _front(plan: Plan, world: World, display: Display, mirror: Mirror) -> dict[str, str]:
    """Files about the front of a search with several goals, of which the log has a line and the mirror is
    told; none of other experiments."""
    search = plan.spec.search
    if len(search.metrics) == 1:
        return {}
    with world.results.reading() as connection:
        found = front(connection, plan.spec.name, search)
    display.say(
        f"{len(found)} configurations are beaten by no other in {' and '.join(search.metrics)} on val: "
        f"python -m analysis pareto {plan.spec.name}"
    )
    mirror.submit_front([trial_id for one in found for trial_id in one.trials])
    return {"front.csv": as_csv(found, search)}


def _without_failed_stages(
    trials: Sequence[PlannedTrial], failed: dict[str, str], recorder: Recorder
) -> list[PlannedTrial]:
    """The trials whose stages are all there; the others fail with the stage's reason."""
    runnable = []
    for trial in trials:
        reasons = [failed[key] for key in trial.closure if key in failed]
        if not reasons:
            runnable.append(trial)
        elif recorder.claim(trial.id):
            recorder.fail(trial.id, reasons[0])
    return runnable


def _mark_used(plan: Plan, world: World) -> None:
    for key in plan.stages:
        if world.store.has(key):
            world.store.mark_used(key)


def _is_blind(plan: Plan, world: World, display: Display) -> bool:
    """Whether the search went by a number that no done trial of a method has; says so."""
    if not plan.searches:
        return False
    search, blind = plan.spec.search, False
    with world.results.reading() as connection:
        for method, ids in history.done_by_method(connection, plan.spec.name).items():
            absent = [
                f"search.metric = {name!r}, selection {search.selection!r}, on the split val"
                for name in search.metrics
                if not history.metric_values(connection, ids, name, "val", search.selection)
            ] + [
                f"search.where.{name}, selection {search.selection!r}, on the split val or train"
                for name in search.where
                if not history.condition_values(connection, ids, name, search.selection)
            ]
            if not absent:
                continue
            blind = True
            names = history.validated(connection, ids[0])
            missing = " and for ".join(absent)
            display.say(
                f"the search is blind: no trial of {method} has a number for {missing}; they have on val: "
                f"{', '.join(names) or 'none'}. Set another one, and run again"
            )
    return blind


def _report_failures(plan: Plan, recorder: Recorder, world: World, display: Display) -> bool:
    for trial_id, error in recorder.failed.items():
        display.say(f"trial {trial_id[:10]} failed: {error.splitlines()[-1]}")
    for line in warned(recorder.warnings.values()):
        display.say(line)
    if plan.searches:
        return _is_blind(plan, world, display) or bool(recorder.failed)
    statuses = world.results.statuses([trial.id for trial in plan.trials])
    missing = [status for status in statuses.values() if status not in ENDED]
    elsewhere = missing.count("running")
    if elsewhere:
        display.say(f"{elsewhere} trials are running in another launch")
    return bool(missing)
