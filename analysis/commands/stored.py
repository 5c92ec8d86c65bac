"""Commands that show what is stored: tables, pairs, the page, SQL."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    refusals,
)
from grid.free_text import presentable
from grid.stores.home import home, results_url

if TYPE_CHECKING:
    import pandas as pd


@app.command()
@in_any_form
def leaderboard(
    experiment: Annotated[str | None, typer.Option(help="Its configurations only.")] = None,
    dataset: Dataset = None,
    method: Method = None,
    split: Split = "test",
    selection: Selection = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 20,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Configurations by worst-group accuracy, means and 95 % intervals over seeds. Where the experiment's
    spec says how to select, `chosen` marks the configuration of each method that it selects."""
    from analysis import tables
    from analysis.page.verdict import chosen_ids
    from analysis.protocol import protocol_of
    from analysis.taught import taught
    from analysis.terminal import with_interval

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        table = tables.leaderboard(
            store, experiment=experiment, dataset=dataset, method=method, split=split,
            selections=protocol.selections, every_form=every_form,
        )  # fmt: skip
        if experiment is not None and protocol.said:
            ids = chosen_ids(store, experiment, table, protocol)
            table = table.assign(chosen=table["config_id"].isin(ids))
    table = table.head(limit)
    accuracies = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
    return answer(
        f"{split}, selection {protocol.selections[0]}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            **({"variant": table["variant"].fillna("")} if table["variant"].notna().any() else {}),
            "configuration": table["knobs"],
            **({"chosen": table["chosen"].map({True: "yes", False: ""})} if "chosen" in table else {}),
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
        table,
        [*taught(table["config"]), *protocol.lines(table)],
    )


@app.command()
@in_any_form
def scores(
    experiment: str,
    metric: Annotated[list[str], typer.Option(help="Which number; give it again for more columns.")],
    dataset: Dataset = None,
    method: Method = None,
    split: Split = "test",
    selection: Selection = None,
    group: Annotated[str, typer.Option(help="One group, or all.")] = "all",
    over_images: Annotated[
        bool,
        typer.Option(
            "--over-images", help="Intervals over images, not seeds, where trials kept a score of each."
        ),
    ] = False,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Any numbers of an experiment's configurations: means and 95 % intervals over seeds."""
    from analysis import tables
    from analysis.protocol import protocol_of
    from analysis.taught import taught
    from analysis.terminal import with_interval

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        table = tables.scores(
            store, experiment, metric, dataset=dataset, method=method, split=split,
            selections=protocol.selections, group=group, every_form=every_form,
        )  # fmt: skip
        if over_images:
            from analysis.images.over_images import over_images as image_scores

            table = image_scores(store, experiment, table, every_form)
    key = ["form", "dataset", "method", "config_id"]
    table = table.assign(shown=with_interval(table, "mean", "ci_low", "ci_high"))
    wide = table.pivot(index=key, columns="metric", values="shown").reindex(columns=metric).reset_index()
    fewest = table.sort_values("n", kind="stable").drop_duplicates(key)  # seeds, of the numbers shown
    rows = fewest.set_index(key, drop=False).loc[list(wide[key].itertuples(index=False))]
    told = tables.records(rows.reset_index(drop=True))
    return answer(
        f"{experiment}: {split}, selection {protocol.selections[0]}, group {group}",
        {
            "dataset": wide["dataset"],
            "method": wide["method"],
            "configuration": rows["knobs"],
            **{name: wide[name].fillna("") for name in metric},
            "n": [str(row["n"]) if over_images else tables.seeds(row) for row in told],
            "note": [tables.note(row) for row in told],
            "id": wide["config_id"].str[:8],
        },
        table,
        [*taught(table["config"]), *protocol.lines(table)],
    )


@app.command()
@in_any_form
def compare(
    experiment: str,
    a: str,
    b: str,
    drawing: Annotated[
        list[str] | None,
        typer.Option(help="An experiment on another drawing of the same data; may be given again."),
    ] = None,
    dataset: Dataset = None,
    metric: Metric = "worst_group_accuracy",
    split: Split = "test",
    selection: Selection = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """B minus A, paired by seed; A and B are methods or configuration ids. Of a method with several
    configurations, the one that is best on the validation split. With --drawing a row more says what holds
    over the drawings of the data, seeds and drawings both varying."""
    from analysis import tables
    from analysis.compare import EVERY_DRAWING, Wanted
    from analysis.compare import compare as compare_methods
    from analysis.protocol import protocol_of

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        wanted = Wanted(
            experiment, metric, split, protocol, dataset=dataset, every_form=every_form,
            others=tuple(drawing or ()),
        )  # fmt: skip
        table = compare_methods(store, wanted, a, b)
    return answer(
        f"{metric} on {split}",
        {
            "dataset": table["dataset"],
            **({"drawing": table["drawing"]} if (table["drawing"] == EVERY_DRAWING).any() else {}),
            "a": table["a"],
            "b": table["b"],
            "n": [
                f"{row['n']} drawings" if row["drawing"] == EVERY_DRAWING else tables.seeds(row)
                for row in tables.records(table)
            ],
            **paired(table),
        },
        table,
        [
            f"{row['dataset']}: {row[side]} is the best of {row[f'chosen_{side}_from']} configurations on val"
            for row in tables.records(table.drop_duplicates("dataset", keep="last"))
            for side in ("a", "b")
            if row[f"chosen_{side}_from"] > 1
        ]
        + protocol.lines(_sides(table)),
    )


def _sides(table: "pd.DataFrame") -> "pd.DataFrame":
    """What comparisons stand for, as `Protocol.lines` reads it."""
    import pandas as pd

    sides = [table[[side, f"selection_{side}"]].set_axis(["config_id", "selection"], axis=1) for side in "ab"]
    both = pd.concat(sides)
    return both.assign(method=both["config_id"].str.split().str[0])


@app.command()
@in_any_form
def reported(
    dataset: Dataset = None,
    method: Method = None,
    metric: Annotated[str | None, typer.Option(help="One number only.")] = None,
    split: Annotated[str | None, typer.Option(help="One split only.")] = None,
    selection: Annotated[str | None, typer.Option(help="One rule of choosing weights only.")] = None,
    results: Results = None,
) -> Answer:
    """Published numbers beside ours: a row for each of our configurations of that method. `departs` says in
    what ours is not the publication's, as NAME=OURS (THEIRS), of what is known of it."""
    from analysis import tables
    from analysis.reported import reported as beside_ours
    from analysis.terminal import number, with_interval

    wanted = {"dataset": dataset, "method": method, "metric": metric, "split": split, "selection": selection}
    with open_store(results) as store:
        table = beside_ours(store, wanted)
    rows = tables.records(table)
    return answer(
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
            "n": ["" if row["n"] is None else tables.seeds(row) for row in rows],
            "departs": ["" if row["departs"] is None else row["departs"] for row in rows],
            "note": [tables.note({"form": "present", **row}) for row in rows],
            "configuration": table["knobs"],
        },
        table,
    )


@app.command()
def report(
    experiment: str,
    out: Annotated[Path | None, typer.Option(help="HTML file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: an object with the path.")] = False,
    results: Results = None,
) -> None:
    """One self-contained HTML file; prints its path."""
    from analysis.page.report import write_report

    with open_store(results) as store:
        path = out or home() / "reports" / f"{experiment}.html"
        write_report(store, experiment, path)
    print(json.dumps({"report": str(path)}) if as_json else path)


@app.command()
def export(
    experiment: str,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: an object with the paths.")] = False,
    results: Results = None,
) -> None:
    """An experiment as Parquet and CSV (trials, knobs, numbers, stages, predictions), with a dictionary of
    the columns. Exit status 1 if predictions of a trial cannot be read."""
    from analysis.export import export as write

    with open_store(results) as store:
        written, left_out = write(store, experiment, out or home() / "exports" / experiment)
    paths = [str(path) for path in written]
    print(json.dumps({"files": paths}) if as_json else "\n".join(paths))
    for line in left_out:
        print(presentable(f"left out: {line}"), file=sys.stderr)
    sys.exit(1 if left_out else 0)


@app.command()
@in_any_form
def sql(statement: str, results: Results = None) -> Answer:
    """One query that reads, on tables and views of the results store."""
    from analysis.sql import RefusedError, query
    from analysis.terminal import shown
    from grid.results.database import connect

    with refusals(RefusedError):
        engine = connect(results_url(results), create=False)  # refuses no store; brings views up to date
        engine.dispose()
        rows = query(engine.url.render_as_string(hide_password=False), statement)
    columns = {name: [shown(row[name]) for row in rows] for name in rows[0]} if rows else {}
    return Answer("", columns, rows, list(columns))


def paired(table: "pd.DataFrame") -> dict[str, Any]:
    """The columns that comparisons of two share."""
    from analysis.tables import records, warning_note
    from analysis.terminal import number, with_interval

    return {
        "mean a": table["mean_a"].map(number),
        "mean b": table["mean_b"].map(number),
        "b - a": with_interval(table, "difference", "ci_low", "ci_high", sign="+"),
        "note": [warning_note(row) for row in records(table)],
    }
