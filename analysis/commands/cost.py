"""The command that says what experiments cost."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.answer import Answer, answer
from analysis.commands.app import EveryForm, Results, app, in_any_form, open_store

if TYPE_CHECKING:
    from analysis.cost import Cost

HOUR = 3600
LARGEST_AS_SECONDS = 600


@app.command()
@in_any_form
def cost(
    experiment: Annotated[str | None, typer.Argument(help="One experiment; else a row for each.")] = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Seconds, GPU-seconds and model passes by stage, method and experiment; what sharing saved; and what the
    same would cost again, by the numbers that `python -m grid plan` uses."""
    import analysis.cost as read

    with open_store(results) as store:
        if experiment is None:
            return _every(read.costs(store, every_form=every_form))
        return _one(read.cost(store, experiment, every_form))


def _one(cost: "Cost") -> Answer:
    from analysis.tables import records

    table = cost.table
    rows = records(table)
    return answer(
        f"{cost.experiment}: what it paid; a stage counts once, whoever reads it",
        {
            "part": table["part"],
            "name": table["name"],
            "dataset": table["dataset"],
            "n": ["" if row["n"] is None else row["n"] for row in rows],
            "found": [row["found"] or "" for row in rows],
            "images": [row["images"] or "" for row in rows],
            "model inputs": [row["model_inputs"] or "" for row in rows],
            "seconds": [_seconds(row["seconds"]) for row in rows],
            "GPU-seconds": [_seconds(row["gpu_seconds"]) for row in rows],
            "each": [_each(row["unit"], row["seconds_each"]) for row in rows],
            "measured": [_rate(row["unit"], row["next_each"]) for row in rows],
            "again": [_seconds(row["next_seconds"]) for row in rows],
        },
        table,
        [*_sharing(cost), _again(cost), *_notes(cost, rows)],
    )


def _sharing(cost: "Cost") -> list[str]:
    import analysis.cost as read

    if not cost.done:
        return ["no trial is done: nothing to say of sharing"]
    alone, once = cost.alone_seconds, cost.once_seconds
    factor = f", a factor of {alone / once:.1f}" if once else ""
    lines = [
        f"{len(cost.done)} done trials: {_time(alone)} if each had paid its stages alone,"
        f" {_time(once, alone)} with each stage paid once: sharing saved {_time(alone - once, alone)}{factor}"
    ]
    if cost.found:
        stages, trials = read.of_stages(cost.found), read.of_trials(cost.found)
        lines.append(
            f"found, paid by other experiments: {len(stages)} stages of {_time(read.total_seconds(stages))},"
            f" {len(trials)} trials of {_time(read.total_seconds(trials))}"
        )
    return lines


def _again(cost: "Cost") -> str:
    import analysis.cost as read

    everything = [*cost.paid, *cost.found]
    stages, trials = cost.again(read.of_stages(everything)), cost.again(read.of_trials(everything))
    unknown = [*stages.not_measured, *trials.not_measured]
    return (
        f"again from nothing, as `grid plan` reckons: about {stages.seconds:.0f} s of stages,"
        f" {trials.seconds:.0f} s of trials, one after the other, on hardware as before"
        + (f"; not measured before: {', '.join(unknown)}" if unknown else "")
    )


def _notes(cost: "Cost", rows: list[dict[str, Any]]) -> list[str]:
    """What the seconds lack, and those without a number."""
    import analysis.cost as read

    notes = []
    if untimed := [f"{row['untimed']} of {row['name']}" for row in rows[:-1] if row["untimed"]]:
        notes.append(f"seconds not known, which count as none: {', '.join(untimed)}")
    if resumed := sum(part.timed < part.units for part in cost.paid):
        notes.append(f"of {resumed} stages, the seconds before a stop are not known")
    if cost.unrecorded:
        notes.append(f"not counted, as this results store does not know them: {cost.unrecorded} stages")
    for status in read.FOR_NOTHING:
        lost = [trial.lost for trial in cost.trials if trial.status == status and trial.lost is not None]
        if lost:
            notes.append(
                f"not in the table: {_time(sum(lost))} of {len(lost)} {status} trials, for no number"
            )
    if earlier := sum(max(trial.attempt - 1, 0) for trial in cost.trials):
        notes.append(f"of {earlier} earlier attempts of these trials, the seconds are not known")
    return notes


def _every(costs: "list[Cost]") -> Answer:
    import pandas as pd

    table = pd.DataFrame([cost.summary for cost in costs])
    seconds = table.select_dtypes("float").map(_seconds)
    return answer(
        "what each experiment paid, and what its done trials rest on: each alone, and once",
        {str(name).replace("_", " "): seconds.get(name, table[name]) for name in table},
        table,
    )


def _seconds(value: float | None) -> str:
    """Empty where there are none."""
    return f"{value:.1f}" if value else ""


def _time(seconds: float, beside: float = 0.0) -> str:
    """In hours, where this or what stands beside it is many minutes."""
    hours = max(seconds, beside) >= LARGEST_AS_SECONDS
    return f"{seconds / HOUR:.2f} h" if hours else f"{seconds:.1f} s"


def _each(unit: str | None, seconds: float | None) -> str:
    article = "an" if unit == "image" else "a"
    return "" if seconds is None else f"{seconds:.3g} s {article} {unit}"


def _rate(unit: str | None, seconds: float | None) -> str:
    """Images in a second, as progress shows them; seconds of a run or a trial."""
    if unit != "image" or not seconds:
        return _each(unit, seconds)
    return f"{1 / seconds:.{0 if seconds < 0.01 else 1}f} images/s"
