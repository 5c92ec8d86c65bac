"""Commands that say what knobs, configurations and groups make of a number."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.answer import Answer, answer
from analysis.commands.app import EveryForm, Metric, Results, Selection, Split, app, in_any_form, open_store

Plot = Annotated[Path | None, typer.Option(help="Also a picture: a file such as effects.svg or effects.png.")]
Method = Annotated[str | None, typer.Option(help="One method only.")]


@app.command()
@in_any_form
def ablation(
    experiment: str,
    parameter: Annotated[str | None, typer.Option(help="One knob only.")] = None,
    metric: Metric = "worst_group_accuracy",
    split: Split = "test",
    selection: Selection = "last",
    method: Method = None,
    to: Annotated[
        str | None, typer.Option(help="The value that differences are to; else each knob's smallest.")
    ] = None,
    plot: Plot = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """What each knob does, everything else being equal: mean and 95 % interval over seeds; the knob with the
    largest difference first. `p (Holm)` is corrected for all differences that are shown."""
    from analysis import tables
    from analysis.effects import effect_note, effects
    from analysis.terminal import number, with_interval

    with open_store(results) as store:
        table = effects(
            store, experiment, metric=metric, split=split, selection=selection,
            parameter=parameter, method=method, to=to, every_form=every_form,
        )  # fmt: skip
    if plot is not None:
        from analysis.figures import effects_of_knobs, save

        save(effects_of_knobs, table, plot, height=max(0.3 * len(table), 2.1))
    rows = tables.records(table)
    return answer(
        f"{experiment}: {metric} on {split}, selection {selection}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "parameter": table["parameter"],
            "value": table["value"],
            **({"group": table["group_name"]} if (table["group_name"] != "all").any() else {}),
            "mean": with_interval(table, "mean", "ci_low", "ci_high"),
            "difference": with_interval(
                table, "difference", "difference_ci_low", "difference_ci_high", sign="+"
            ),
            "to": table["reference"].fillna(""),
            "p (Holm)": [number(value) for value in table["p_holm"]],
            "n": [tables.seeds(row) for row in rows],
            "note": [effect_note(row) for row in rows],
        },
        table,
    )


@app.command()
@in_any_form
def importance(
    experiment: str,
    metric: Metric = "worst_group_accuracy",
    split: Split = "val",
    selection: Selection = "last",
    method: Method = None,
    results: Results = None,
) -> Answer:
    """Which knobs matter for a number, among the values that were tried: shares by fANOVA and PED-ANOVA."""
    from analysis.importance import importance as shares
    from analysis.terminal import number

    with open_store(results) as store:
        table = shares(store, experiment, metric, split=split, selection=selection, method=method)
    return answer(
        f"{experiment}: {metric} on {split}, selection {selection}",
        {
            **{name: table[name] for name in ("dataset", "method", "parameter")},
            "fANOVA": [number(value) for value in table["fanova"]],
            "PED-ANOVA": [number(value) for value in table["ped_anova"]],
            "values": table["values"],
            "configurations": table["configurations"],
        },
        table,
        (
            "shares of the variance among the values that were tried, over configurations (means over seeds);"
            " between knobs that vary together they are split by chance",
        ),
    )


@app.command()
@in_any_form
def pareto(
    experiment: str,
    metric: Annotated[list[str] | None, typer.Option(help="The more the better; may be given again.")] = None,
    least: Annotated[
        list[str] | None,
        typer.Option(help="The less the better, as `seconds` of a trial; may be given again."),
    ] = None,
    split: Split = "test",
    selection: Selection = "last",
    plot: Plot = None,
    beaten: Annotated[
        bool, typer.Option("--beaten", help="Also the configurations that others beat.")
    ] = False,
    results: Results = None,
) -> Answer:
    """Configurations that no other beats in all numbers: by default worst group and average."""
    from analysis.pareto import pareto as frontier
    from analysis.terminal import number

    most = metric or ([] if least else ["worst_group_accuracy", "average_accuracy"])
    with open_store(results) as store:
        table = frontier(store, experiment, most, least or [], split=split, selection=selection)
    if plot is not None:
        from analysis.figures import save, trade_off

        save(trade_off([*most, *(least or [])]), table, plot)
    table = table if beaten else table[table["unbeaten"]]
    return answer(
        f"{experiment}: {split}, selection {selection}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "configuration": table["knobs"],
            **{name: [number(value) for value in table[name]] for name in [*most, *(least or [])]},
            "n": table["n"],
            **({"unbeaten": ["yes" if one else "" for one in table["unbeaten"]]} if beaten else {}),
            "id": table["config_id"].str[:8],
        },
        table,
        ("means over seeds are compared as they are: which of two near ones is larger may be chance",),
    )


@app.command()
@in_any_form
def groups(
    experiment: str,
    metric: Metric = "group_accuracy",
    baseline: Annotated[
        str | None, typer.Option(help="A method or the beginning of an id; else standard.")
    ] = None,
    split: Split = "test",
    selection: Selection = "last",
    results: Results = None,
) -> Answer:
    """Accuracy of each group, and what changed against a baseline, paired by seed."""
    from analysis.groups import groups as by_group
    from analysis.terminal import with_interval

    with open_store(results) as store:
        table = by_group(
            store, experiment, metric=metric, baseline=baseline, split=split, selection=selection
        )
    return answer(
        f"{experiment}: {metric} on {split}, selection {selection}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "configuration": table["knobs"],
            "group": table["group_name"],
            "mean": with_interval(table, "mean", "ci_low", "ci_high"),
            "difference": with_interval(
                table, "difference", "difference_ci_low", "difference_ci_high", sign="+"
            ),
            "to": table["baseline"].fillna(""),
            "n": table["n"],
            "id": table["config_id"].str[:8],
        },
        table,
    )
