"""The commands of `python -m analysis`. Exit status 2: refused, with one line that says why."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.free_text import presentable
from grid.stores.home import HomeError, home, results_url

if TYPE_CHECKING:
    from grid.results.store import ResultsStore

app = typer.Typer(
    help="Tables, comparisons and reports from the results store. Never writes to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Results = Annotated[
    str | None, typer.Option("--results", help="URL of the results store.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: a list of row objects.")]
EveryForm = Annotated[
    bool, typer.Option("--all", help="Also trials that only an earlier form of an experiment asked for.")
]
Metric = Annotated[str, typer.Option(help="Which number.")]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Selection = Annotated[str, typer.Option(help="By which rule the weights were chosen.")]


@app.command()
def ablation(
    experiment: str,
    parameter: Annotated[str | None, typer.Option(help="One knob only.")] = None,
    metric: Metric = "worst_group_accuracy",
    split: Split = "test",
    selection: Selection = "last",
    method: Annotated[str | None, typer.Option(help="One method only.")] = None,
    every_form: EveryForm = False,
    as_json: Json = False,
    results: Results = None,
) -> None:
    """What each knob does, everything else being equal: mean and 95 % interval over seeds."""
    from analysis import tables
    from analysis.terminal import print_json, print_table, with_interval

    with _store(results) as store:
        table = tables.ablation(
            store, experiment, metric=metric, split=split, selection=selection,
            parameter=parameter, method=method, every_form=every_form,
        )  # fmt: skip
    if as_json:
        return print_json(tables.records(table))
    return print_table(
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
            "n": [tables.seeds(row) for row in tables.records(table)],
            "note": [tables.ablation_note(row) for row in tables.records(table)],
        },
    )


@app.command()
def leaderboard(
    dataset: Annotated[str | None, typer.Option(help="One data set only.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Its configurations only.")] = None,
    split: Split = "test",
    selection: Selection = "last",
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 20,
    every_form: EveryForm = False,
    as_json: Json = False,
    results: Results = None,
) -> None:
    """Configurations by worst-group accuracy, means and 95 % intervals over seeds."""
    from analysis import tables
    from analysis.taught import taught
    from analysis.terminal import print_json, print_table, with_interval

    with _store(results) as store:
        table = tables.leaderboard(
            store, dataset=dataset, experiment=experiment, split=split, selection=selection,
            every_form=every_form,
        ).head(limit)  # fmt: skip
    if as_json:
        return print_json(tables.records(table))
    accuracies = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
    return print_table(
        f"{split}, selection {selection}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "configuration": table["knobs"],
            **{
                name.removesuffix("_accuracy").replace("_", " "): with_interval(
                    table, name, f"{name}_ci_low", f"{name}_ci_high"
                )
                for name in accuracies
            },
            "n": [tables.seeds(row) for row in tables.records(table)],
            "failed images": [
                "" if row["n_failed"] is None else int(row["n_failed"]) for row in tables.records(table)
            ],
            "note": [tables.note(row) for row in tables.records(table)],
            "id": table["config_id"].str[:8],
        },
        taught(table["config"]),
    )


@app.command()
def scores(
    experiment: str,
    metric: Annotated[list[str], typer.Option(help="Which number; give it again for more columns.")],
    split: Split = "test",
    selection: Selection = "last",
    group: Annotated[str, typer.Option(help="One group, or all.")] = "all",
    over_images: Annotated[
        bool,
        typer.Option(
            "--over-images", help="Intervals over images, not seeds, where trials kept a score of each."
        ),
    ] = False,
    every_form: EveryForm = False,
    as_json: Json = False,
    results: Results = None,
) -> None:
    """Any numbers of an experiment's configurations: means and 95 % intervals over seeds."""
    from analysis import tables
    from analysis.over_images import over_images as image_scores
    from analysis.taught import taught
    from analysis.terminal import print_json, print_table, with_interval

    with _store(results) as store:
        table = tables.scores(
            store, experiment, metric, split=split, selection=selection, group=group, every_form=every_form
        )
        if over_images:
            table = image_scores(store, experiment, table)
    if as_json:
        return print_json(tables.records(table))
    key = ["form", "dataset", "method", "config_id"]
    table = table.assign(shown=with_interval(table, "mean", "ci_low", "ci_high"))
    wide = table.pivot(index=key, columns="metric", values="shown").reindex(columns=metric).reset_index()
    fewest = table.sort_values("n", kind="stable").drop_duplicates(key)  # seeds, of the numbers shown
    rows = fewest.set_index(key, drop=False).loc[list(wide[key].itertuples(index=False))]
    told = tables.records(rows.reset_index(drop=True))
    return print_table(
        f"{experiment}: {split}, selection {selection}, group {group}",
        {
            "dataset": wide["dataset"],
            "method": wide["method"],
            "configuration": rows["knobs"],
            **{name: wide[name].fillna("") for name in metric},
            "n": [str(row["n"]) if over_images else tables.seeds(row) for row in told],
            "note": [tables.note(row) for row in told],
            "id": wide["config_id"].str[:8],
        },
        taught(table["config"]),
    )


@app.command()
def compare(
    experiment: str,
    a: str,
    b: str,
    metric: Metric = "worst_group_accuracy",
    split: Split = "test",
    selection: Selection = "last",
    as_json: Json = False,
    results: Results = None,
) -> None:
    """B minus A, paired by seed; A and B are methods or configuration ids."""
    from analysis import tables
    from analysis.compare import Wanted
    from analysis.compare import compare as compare_methods
    from analysis.terminal import number, print_json, print_table, with_interval

    with _store(results) as store:
        store.experiment_summary(experiment)
        table = compare_methods(store, Wanted(experiment, metric, split, selection), a, b)
    if as_json:
        return print_json(tables.records(table))
    return print_table(
        f"{metric} on {split}",
        {
            **{name: table[name] for name in ("dataset", "a", "b")},
            "n": [tables.seeds(row) for row in tables.records(table)],
            "mean a": table["mean_a"].map(number),
            "mean b": table["mean_b"].map(number),
            "b - a": with_interval(table, "difference", "ci_low", "ci_high", sign="+"),
            "note": [tables.warning_note(row) for row in tables.records(table)],
        },
    )


@app.command()
def reported(
    dataset: Annotated[str | None, typer.Option(help="One data set only.")] = None,
    method: Annotated[str | None, typer.Option(help="One method only.")] = None,
    as_json: Json = False,
    results: Results = None,
) -> None:
    """Published numbers beside ours: a row for each of our configurations of that method, whose knobs must be
    compared with the setting by eye."""
    from analysis import tables
    from analysis.terminal import number, print_json, print_table, with_interval

    with _store(results) as store:
        table = tables.reported(store, dataset=dataset, method=method)
    if as_json:
        return print_json(tables.records(table))
    return print_table(
        "published numbers and ours",
        {
            "dataset": table["dataset"],
            "published": table["paper"] + ", " + table["table_name"] + ": " + table["row_name"],
            "setting": table["setting"],
            "method": table["method"],
            "metric": table["metric"]
            + table["group_name"].map(lambda name: "" if name == "all" else f", {name}"),
            "reported": table["reported"].map(number),
            "measured": with_interval(table, "measured", "ci_low", "ci_high"),
            "difference": [number(value, "+") for value in table["difference"]],
            "n": ["" if row["n"] is None else tables.seeds(row) for row in tables.records(table)],
            "note": [tables.note({"form": "present", **row}) for row in tables.records(table)],
            "configuration": table["knobs"],
        },
    )


@app.command()
def agreement(
    experiment: str,
    a: str,
    b: str,
    metric: Annotated[str, typer.Option(help="Which number of each image.")] = "insertion_auc_eac_official",
    as_json: Json = False,
    results: Results = None,
) -> None:
    """How often two explanation methods choose the same mask, and B minus A, paired by image."""
    from analysis import tables
    from analysis.agreement import agreements
    from analysis.terminal import number, print_json, print_table, with_interval

    with _store(results) as store:
        store.experiment_summary(experiment)
        table = agreements(store, experiment, a, b, metric)
    if as_json:
        return print_json(tables.records(table))
    return print_table(
        f"{metric}, intervals over images",
        {
            **{name: table[name] for name in ("dataset", "seed", "a", "b", "n")},
            "same mask": table["agreement"].map(number),
            "mean a": table["mean_a"].map(number),
            "mean b": table["mean_b"].map(number),
            "b - a": with_interval(table, "difference", "ci_low", "ci_high", sign="+"),
            "note": [tables.warning_note(row) for row in tables.records(table)],
        },
    )


@app.command()
def preferences(experiment: str, as_json: Json = False, results: Results = None) -> None:
    """Whose explanations people preferred: percentages of votes with 95 % intervals, by rater and of all."""
    from analysis import tables
    from analysis.preferences import preferences as shares_of_votes
    from analysis.terminal import print_json, print_table

    with _store(results) as store:
        table = shares_of_votes(store, experiment)
    if as_json:
        return print_json(tables.records(table))
    return print_table(
        f"{experiment}: 95 % Wilson intervals; of all raters by images as clusters, whose votes go together",
        {
            **{name: table[name] for name in ("dataset", "a", "b", "rater", "n", "images")},
            **{
                name if name == "discord" else f"choice {name.upper()}": [
                    f"{100 * row[f'{name}_share']:.1f} % "
                    f"[{100 * row[f'{name}_ci_low']:.1f}, {100 * row[f'{name}_ci_high']:.1f}]"
                    for row in tables.records(table)
                ]
                for name in ("a", "b", "discord")
            },
        },
    )


@app.command()
def report(
    experiment: str,
    out: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
    as_json: Json = False,
    results: Results = None,
) -> None:
    """One self-contained HTML file; prints its path."""
    from analysis.report import write_report

    with _store(results) as store:
        path = out or home() / "reports" / f"{experiment}.html"
        write_report(store, experiment, path)
    print(json.dumps({"report": str(path)}) if as_json else path)


@app.command()
def sql(statement: str, as_json: Json = False, results: Results = None) -> None:
    """One query that reads, on tables and views of the results store."""
    from analysis.sql import RefusedError, query
    from analysis.terminal import print_json, print_table, shown
    from grid.results.database import connect

    with _refusals(RefusedError):
        engine = connect(results_url(results), create=False)  # refuses no store; brings views up to date
        engine.dispose()
        rows = query(engine.url.render_as_string(hide_password=False), statement)
    if as_json:
        return print_json(rows)
    columns = {name: [shown(row[name]) for row in rows] for name in rows[0]} if rows else {}
    return print_table("", columns)


@contextmanager
def _store(results: str | None) -> Iterator["ResultsStore"]:
    from grid.results.store import ResultsStore

    with _refusals():
        store = ResultsStore.open(results_url(results), create=False)
        yield store
        store.close()


@contextmanager
def _refusals(*kinds: type[Exception]) -> Iterator[None]:
    """What is refused is one line, and exit status 2."""
    from grid.results.database import ResultsUnreachable

    refused: tuple[type[Exception], ...] = (HomeError, ResultsUnreachable, LookupError, *kinds)
    try:
        yield
    except refused as error:
        print(presentable(f"error: {error.args[0]}"), file=sys.stderr)
        raise typer.Exit(2) from error
