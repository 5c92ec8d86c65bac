"""The plan for people."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from grid.planning.plan import Plan
from grid.planning.planned import PlannedStage


def show_plan(plan: Plan, console: Console) -> None:
    """Trials, stages by kind, what is cached, what it will cost."""
    facts = plan.as_json()
    statuses = Counter(plan.statuses.values())
    console.print(
        f"experiment {plan.spec.name}: {facts['trials']} trials, {facts['done']} done, "
        + (f"{facts['stopped']} stopped early, " if facts["stopped"] else "")
        + f"{facts['to_run']} to run"
        + _others(statuses),
        markup=False,
    )
    if facts["to_go_on"]:
        console.print(
            f"{facts['to_go_on']} trials that were stopped early go on, as this spec does not stop them "
            "there: they begin anew, for no method keeps its state",
            markup=False,
        )
    if plan.spec.search.warm_start:
        of = f" of {', '.join(plan.warm_from)}" if plan.warm else ""
        console.print(f"warm start: the search is told of {len(plan.warm)} configurations{of}", markup=False)
    if (watched := plan.spec.search.watched) and facts["never_stopped"] and facts["to_run"]:
        console.print(
            f"the scheduler stops no trial of {', '.join(facts['never_stopped'])} that reports no "
            f"{watched.metric} after steps of a training of its own",
            markup=False,
        )
    if facts["earlier_form"]:
        console.print(
            f"{facts['earlier_form']} trials of an earlier form of {plan.spec.name} stay in the store, "
            "out of its tables (--all shows them)",
            markup=False,
        )
    console.print(
        f"{facts['distinct_stages']} distinct stages, {facts['cached_stages']} cached; sharing factor "
        f"{facts['sharing_factor']:g} (stage runs without sharing / with)",
        markup=False,
    )
    for problem in plan.broken.values():
        console.print(f"BROKEN, counted as to be computed: {problem}", markup=False)
    for dataset in plan.datasets:
        for text in dataset.left_out:
            console.print(f"left out of {dataset.label}: {text}", markup=False)
    if not facts["to_run"]:
        return
    console.print(_table(plan))
    counted = all(dataset.index is not None for dataset in plan.datasets)
    passes = f"{facts['model_passes']} images" if counted else "not counted, a data set is not there yet"
    console.print(f"model passes left: {passes}", markup=False)
    if counted:
        console.print(_seconds(facts), markup=False)
    for name, note in {data.name: data.card.note for data in plan.datasets if data.card.note}.items():
        console.print(f"note on {name}: {' '.join(note.split())}", markup=False)
    for missing in plan.unresolved:
        console.print(f"unresolved: {missing}", markup=False)


def _seconds(facts: Mapping[str, Any]) -> str:
    """What stages and trials will take by what was measured before, and which of them never was."""
    known = [f"{seconds:.0f} of {part}" for part, seconds in facts["estimated_seconds"].items() if seconds]
    unknown = facts["not_measured"]
    left = [f"about {', '.join(known)}, one after the other, on hardware as before"] if known else []
    left += [f"not measured before: {', '.join(unknown)}"] if unknown else []
    return "seconds left: " + "; ".join(left)


def _others(statuses: Counter[str]) -> str:
    shown = [f"{statuses[s]} {s}" for s in ("failed", "interrupted", "running") if statuses[s]]
    return f" ({', '.join(shown)} before)" if shown else ""


def _table(plan: Plan) -> Table:
    table = Table("stage", "data set", "distinct", "cached", "images each", box=None, pad_edge=False)
    drawings = Counter(dataset.name for dataset in plan.datasets)
    shown = {name: f"{name}, {n} drawings" if n > 1 else name for name, n in drawings.items()}
    rows: dict[tuple[str, str], list[PlannedStage]] = {}
    for stage in plan.stages.values():
        rows.setdefault((stage.stage.kind, shown[stage.dataset.name] if stage.dataset else "-"), []).append(
            stage
        )
    for (kind, dataset), same in rows.items():
        cached = sum(stage.key in plan.cached for stage in same)
        images = max(stage.images for stage in same)
        table.add_row(kind, dataset, str(len(same)), str(cached), str(images) if images else "-")
    return table
