"""Commands that say what knobs, configurations and groups make of a number."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.answer import Answer, answer
from analysis.commands.app import (
    Dataset,
    EveryForm,
    Method,
    Metric,
    Results,
    Selection,
    Split,
    app,
    in_any_form,
    open_store,
)

if TYPE_CHECKING:
    import pandas as pd

Plot = Annotated[Path | None, typer.Option(help="Also a picture: a file such as effects.svg or effects.png.")]


@app.command()
@in_any_form
def ablation(
    experiment: str,
    parameter: Annotated[str | None, typer.Option(help="One knob only.")] = None,
    dataset: Dataset = None,
    method: Method = None,
    metric: Metric = "worst_group_accuracy",
    split: Split = "test",
    selection: Selection = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="The value that differences are to; `default` is the method's own; else the smallest."
        ),
    ] = None,
    plot: Plot = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """What each knob does, everything else being equal: mean and 95 % interval over seeds; the knob with the
    largest difference first. `p (Holm)` is corrected for all differences that are shown."""
    from analysis import tables
    from analysis.effects import effect_note, effects
    from analysis.protocol import protocol_of
    from analysis.terminal import number, with_interval

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        table = effects(
            store, experiment, parameter=parameter, dataset=dataset, method=method, metric=metric,
            split=split, selections=protocol.selections, to=to, every_form=every_form,
        )  # fmt: skip
        data = tables.data_names(store, table)
    if plot is not None:
        from analysis.figures import effects_of_knobs, save

        save(effects_of_knobs, table, plot, height=max(0.3 * len(table), 2.1))
    rows = tables.records(table)
    return answer(
        f"{experiment}: {metric} on {split}, selection {protocol.selections[0]}",
        {
            "dataset": data,
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
        protocol.lines(table.assign(config_id="")),
    )


@app.command()
@in_any_form
def importance(
    experiment: str,
    dataset: Dataset = None,
    method: Method = None,
    metric: Metric = "worst_group_accuracy",
    split: Split = "val",
    selection: Annotated[str, typer.Option(help="By which rule the weights were chosen.")] = "last",
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Which knobs matter for a number, among the values that were tried: shares by fANOVA and PED-ANOVA."""
    from analysis.importance import importance as shares
    from analysis.terminal import number

    with open_store(results) as store:
        table = shares(
            store, experiment, metric, dataset=dataset, method=method, split=split, selection=selection,
            every_form=every_form,
        )  # fmt: skip
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
    dataset: Dataset = None,
    method: Method = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; else test, or val for a search's goals.", show_default=False),
    ] = None,
    selection: Selection = None,
    plot: Plot = None,
    beaten: Annotated[
        bool, typer.Option("--beaten", help="Also the configurations that others beat.")
    ] = False,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Configurations that no other beats in all numbers: by default the several goals of the experiment's
    search on the validation split, of those that keep its conditions, else worst group and average."""
    from analysis.pareto import keeps
    from analysis.pareto import pareto as frontier
    from analysis.protocol import goals_of, protocol_of
    from analysis.terminal import number

    with open_store(results) as store:
        search = None if metric or least else goals_of(store, experiment)
        most = metric or ([] if least else ["worst_group_accuracy", "average_accuracy"])
        if search is not None:
            most, least = search.goals("max"), search.goals("min")
        split = split or ("test" if search is None else "val")
        protocol = protocol_of(store, experiment, selection)
        if search is not None and protocol.selections == ("last",):
            protocol = protocol_of(store, experiment, search.selection)
        kept = None if search is None else keeps(store, experiment, search)
        table = frontier(
            store, experiment, most, least or [], dataset=dataset, method=method, split=split,
            selections=protocol.selections, every_form=every_form, among=kept,
        )  # fmt: skip
    conditions = [f"{name} {text}" for name, text in search.where.items()] if search else []
    if plot is not None:
        from analysis.figures import save, trade_off

        save(trade_off([*most, *(least or [])]), table, plot)
    table = table if beaten else table[table["unbeaten"]]
    return answer(
        f"{experiment}: {split}, selection {protocol.selections[0]}",
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
        (
            "means over seeds are compared as they are: which of two near ones is larger may be chance",
            *(["the goals of the experiment's search"] if search else []),
            *(
                [f"only configurations that keep {' and '.join(conditions)} in every trial"]
                if conditions
                else []
            ),
            *protocol.lines(table),
        ),
    )


@app.command()
@in_any_form
def groups(
    experiment: str,
    dataset: Dataset = None,
    method: Method = None,
    metric: Metric = "group_accuracy",
    baseline: Annotated[
        str | None, typer.Option(help="A method or the beginning of an id; else standard.")
    ] = None,
    split: Split = "test",
    selection: Selection = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Accuracy of each group, and what changed against a baseline, paired by seed. `of images` is Wilson's
    interval of the mean on so many images, which all seeds share: it does not shrink with more seeds."""
    import pandas as pd

    from analysis.compare import Wanted
    from analysis.groups import groups as by_group
    from analysis.protocol import protocol_of
    from analysis.terminal import number, with_interval

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        wanted = Wanted(experiment, metric, split, protocol, dataset=dataset, every_form=every_form)
        table = by_group(store, wanted, baseline=baseline)
    table = table if method is None else table[table["method"] == method]
    return answer(
        f"{experiment}: {metric} on {split}, selection {protocol.selections[0]}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "configuration": table["knobs"],
            "group": table["group_name"],
            "mean": with_interval(table, "mean", "ci_low", "ci_high"),
            "difference": with_interval(
                table, "difference", "difference_ci_low", "difference_ci_high", sign="+"
            ),
            "to": _baselines(table),
            "n": table["n"],
            **(
                {
                    "images": ["" if pd.isna(images) else int(images) for images in table["images"]],
                    "of images": [
                        "" if pd.isna(low) else f"[{number(low)}, {number(high)}]"
                        for low, high in zip(table["images_ci_low"], table["images_ci_high"], strict=True)
                    ],
                }
                if table["images"].notna().any()
                else {}
            ),
            "id": table["config_id"].str[:8],
        },
        table,
        protocol.lines(table),
    )


def _baselines(table: "pd.DataFrame") -> list[str]:
    """Of each row, with an id where the method has several configurations."""
    from analysis.tables import records

    several = table.groupby(["dataset", "method"])["config_id"].nunique() > 1
    return [
        f"{row['baseline']} {row['baseline_id'][:8]}" if several.get((row["dataset"], row["baseline"]))
        else row["baseline"] or ""
        for row in records(table)
    ]  # fmt: skip
