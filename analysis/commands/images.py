"""Commands that answer image by image, or vote by vote."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.answer import Answer, answer
from analysis.commands.app import Dataset, EveryForm, Results, app, in_any_form, open_store
from analysis.commands.stored import paired

if TYPE_CHECKING:
    import pandas as pd


@app.command()
@in_any_form
def errors(
    experiment: str,
    a: str,
    b: str,
    dataset: Dataset = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="By which one of a method's configurations is chosen, on the validation split; else as the "
            "experiment's spec says, or worst_group_accuracy.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 20,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """The test images that A gets wrong and B right, and what decided; A and B are methods or configuration
    ids. An image that failed is wrong. Below: how many images each gets wrong, by seed and by group."""
    from analysis.compare import Wanted
    from analysis.images.errors import errors as found_errors
    from analysis.protocol import protocol_of
    from analysis.tables import records, warning_note

    with open_store(results) as store:
        store.experiment_summary(experiment)
        protocol = protocol_of(store, experiment).by_metric(metric)
        wanted = Wanted(experiment, protocol=protocol, dataset=dataset, every_form=every_form)
        found = found_errors(store, wanted, a, b)
    table = found.images.head(limit)
    rows = records(table)
    return answer(
        f"{experiment}: images of the test split that {a} gets wrong and {b} right",
        {
            "dataset": table["dataset"],
            "image": table["image_id"],
            "file": table["path"].fillna(""),
            "group": table["group_name"],
            "a says": [row["predicted_a"] or "failed" for row in rows],
            "a wrong": [f"{row['wrong_a']} of {row['n']}" for row in rows],
            "b wrong": [f"{row['wrong_b']} of {row['n']}" for row in rows],
            "seed": table["seed"],
            "why a": table["evidence_a"],
            "why b": table["evidence_b"],
            "note": [warning_note(row) for row in rows],
        },
        table,
        (
            f"{len(table)} of {len(found.images)} images; what is said of one is of the seed beside it",
            *_cells(found.cells),
            *([f"{protocol.said}; predictions are of the last epoch"] if protocol.said else []),
            *(
                f"picture of image {row['image_id']} by {side}: {row[f'picture_{side}']}"
                for row in rows
                for side in ("a", "b")
                if row[f"picture_{side}"]
            ),
        ),
    )


def _cells(cells: "pd.DataFrame") -> list[str]:
    """A line for each seed with McNemar's p, and one for each group over all seeds."""
    from analysis.images.errors import CELLS, EVERY_GROUP

    def counts(row: dict[Hashable, Any]) -> str:
        return (
            f"of {row['n']} images both get {row['both_right']} right and {row['both_wrong']} wrong, "
            f"only a gets {row['only_a_wrong']} wrong, only b {row['only_b_wrong']}"
        )

    lines = []
    for (dataset, a, b), own in cells.groupby(["dataset", "a", "b"]):
        lines.append(f"{dataset}, a = {a}, b = {b}:")
        whole = own[own["group_name"] == EVERY_GROUP]
        lines += [
            f"  seed {row['seed']}: {counts(row)}; McNemar's exact p = {row['p']:.3g}"
            for row in whole.to_dict("records")
        ]
        of_groups = own[own["group_name"] != EVERY_GROUP].groupby("group_name")
        groups = of_groups[["n", *CELLS]].sum().reset_index()
        lines += [f"  {row['group_name']}, all seeds: {counts(row)}" for row in groups.to_dict("records")]
    return lines


@app.command()
@in_any_form
def agreement(
    experiment: str,
    a: str,
    b: str,
    dataset: Dataset = None,
    metric: Annotated[str, typer.Option(help="Which number of each image.")] = "insertion_auc_eac_official",
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """How often two explanation methods choose the same mask, and B minus A, paired by image."""
    from analysis.compare import Wanted
    from analysis.images.agreement import agreements
    from analysis.terminal import number

    with open_store(results) as store:
        store.experiment_summary(experiment)
        wanted = Wanted(experiment, metric, dataset=dataset, every_form=every_form)
        table = agreements(store, wanted, a, b)
    return answer(
        f"{metric}, intervals over images",
        {
            **{name: table[name] for name in ("dataset", "seed", "a", "b", "n")},
            "same mask": table["agreement"].map(number),
            **paired(table),
        },
        table,
    )


@app.command()
@in_any_form
def preferences(experiment: str, results: Results = None) -> Answer:
    """Whose explanations people preferred: percentages of votes with 95 % intervals, by rater and of all."""
    from analysis import tables
    from analysis.images.preferences import preferences as shares_of_votes

    with open_store(results) as store:
        table = shares_of_votes(store, experiment)
    return answer(
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
        table,
    )
