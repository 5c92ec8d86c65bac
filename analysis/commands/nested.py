"""The command that judges methods on drawings of the data that had no part in choosing."""

from typing import Annotated

import typer

from analysis.answer import Answer, answer
from analysis.commands.app import (
    Dataset,
    EveryForm,
    Method,
    Metric,
    Results,
    Selection,
    app,
    in_any_form,
    open_store,
)


@app.command()
@in_any_form
def nested(
    experiment: str,
    drawing: Annotated[
        list[str] | None,
        typer.Option(help="An experiment on another drawing of the same data; may be given again."),
    ] = None,
    dataset: Dataset = None,
    method: Method = None,
    metric: Metric = "worst_group_accuracy",
    baseline: Annotated[
        str | None, typer.Option(help="A method or the beginning of an id; else standard.")
    ] = None,
    selection: Selection = None,
    every_form: EveryForm = False,
    results: Results = None,
) -> Answer:
    """Nested cross-validation over drawings of the data: for each, the validation splits of the others choose
    a method's configuration, whose number on the test split of this one counts. `plain` is that of what the
    drawing's own validation split chooses, and `plain - nested` what such a choice gains by this drawing."""
    from analysis import tables
    from analysis.compare import EVERY_DRAWING, Wanted
    from analysis.nested import nested as over_drawings
    from analysis.protocol import protocol_of
    from analysis.terminal import number, with_interval

    with open_store(results) as store:
        protocol = protocol_of(store, experiment, selection)
        wanted = Wanted(
            experiment, metric, protocol=protocol, dataset=dataset, every_form=every_form,
            others=tuple(drawing or ()),
        )  # fmt: skip
        found = over_drawings(store, wanted, baseline=baseline)
    table = found.rows if method is None else found.rows[found.rows["method"] == method]
    rows = tables.records(table)
    return answer(
        f"{metric} on test, nested over drawings, selection {protocol.selections[0]}",
        {
            "dataset": table["dataset"],
            "method": table["method"],
            "drawing": table["drawing"],
            "chosen by the others": table["chosen"].fillna("nothing"),
            "of": table["chosen_from"],
            "n": [
                tables.seeds(row) + (" drawings" if row["drawing"] == EVERY_DRAWING else "") for row in rows
            ],
            "nested": with_interval(table, "mean", "ci_low", "ci_high"),
            "difference": with_interval(
                table, "difference", "difference_ci_low", "difference_ci_high", sign="+"
            ),
            "to": table["baseline"].fillna(""),
            "chosen by its own": table["plain_chosen"].fillna("nothing"),
            "plain": table["plain_mean"].map(number),
            "plain - nested": with_interval(
                table, "plain_gain", "plain_gain_ci_low", "plain_gain_ci_high", sign="+"
            ),
            "note": [tables.warning_note(row) for row in rows],
        },
        table,
        [*found.left_out, *protocol.lines(table.dropna(subset=["config_id", "selection"]))],
    )
