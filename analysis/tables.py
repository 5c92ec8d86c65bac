"""The tables that people ask for, as data frames made from the views."""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd
from sqlalchemy import String, bindparam, text

from grid.results.entry import flattened
from grid.results.store import ResultsStore

LAST_PLAN = "SELECT plan FROM launch WHERE experiment = :experiment ORDER BY id DESC LIMIT 1"
LOST = (("seeds_failed", "failed"), ("seeds_stopped", "stopped early"), ("seeds_nan", "without a number"))
Where = Mapping[str, str | list[str] | None]  # by column: the value, or one of the values


def leaderboard(
    store: ResultsStore,
    *,
    experiment: str | None = None,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "test",
    selection: str = "last",
    every_form: bool = False,
) -> pd.DataFrame:
    """Rows of the view `leaderboard`, the best worst group first, and `knobs`: those of a method
    that vary within the table. With `experiment`, the configurations that it asks for; their
    seeds are those of the whole store. With `every_form` also
    configurations that only an earlier form of an experiment asked for. Raises LookupError for an experiment
    that is not in the store.
    """
    asked = None if experiment is None else _configurations(store, experiment, every_form)
    wanted: Where = {
        "dataset": dataset,
        "method": method,
        "split": split,
        "selection": selection,
        "config_id": asked,
    }
    table = rows_of(store, "leaderboard", wanted, every_form)
    table = table.sort_values("worst_group_accuracy", ascending=False, ignore_index=True)
    return table.assign(knobs=varying_knobs(table))


def scores(
    store: ResultsStore,
    experiment: str,
    metrics: Sequence[str],
    *,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "test",
    selection: str = "last",
    group: str = "all",
    every_form: bool = False,
) -> pd.DataFrame:
    """Any metrics of an experiment's configurations: rows of the view `score`, a column `metric` and its
    statistics, and `knobs` as in `leaderboard`. every_form and LookupError as there,
    and for a metric that no trial of the experiment has."""
    asked = _configurations(store, experiment, every_form)
    wanted: Where = {
        "dataset": dataset,
        "method": method,
        "split": split,
        "selection": selection,
        "group_name": group,
        "config_id": asked,
    }
    table = rows_of(store, "score", {**wanted, "metric": list(metrics)}, every_form)
    absent = [name for name in metrics if not (table["metric"] == name).any()]
    if absent:
        there = set(rows_of(store, "score", wanted, every_form)["metric"])
        near = get_close_matches(absent[0], sorted(there), n=4, cutoff=0.3)
        where = ", ".join(filter(None, [dataset, method, split, selection, group]))
        raise LookupError(f"{experiment} has no {absent[0]} ({where}); closest: {near}")
    return table.assign(knobs=varying_knobs(table))


def seeds(row: Any) -> str:
    """Seeds that count, of those that were planned: `3`, or `2 of 3`."""
    n, planned = int(row["n"]), int(row["n_planned"])
    return str(n) if n == planned else f"{n} of {planned}"


def note(row: Any) -> str:
    """What a reader must know of a row of the views `leaderboard` and `score`: seeds that do not count, and
    why; images that were dropped."""
    lost = [
        f"{int(row[column])} of {int(row['n_planned'])} seeds {why}" for column, why in LOST if row[column]
    ]
    return ", ".join(filter(None, [*lost, *common_notes(row)]))


def common_notes(row: Any) -> list[str]:
    """What any table says of a row: images that were dropped, an earlier form of the spec, a warning of its
    trials. Each may be empty."""
    return [
        on_failed_note(row),
        "of an earlier form" if row["form"] == "earlier" else "",
        warning_note(row),
    ]


def warning_note(row: Any) -> str:
    """What trials of the row warn of; empty if nothing."""
    return f"WARNING: {row['warning']}" if isinstance(row["warning"], str) else ""


def one_warning(warnings: Iterable[Any]) -> str | None:
    """One of the things that several trials warn of, as in the views; None if none of them warns. Missing
    values may be None or NaN."""
    return max((text for text in warnings if isinstance(text, str)), default=None)


def on_failed_note(row: Any) -> str:
    """Empty if failed images count as wrong, as they should."""
    notes = {"drop": "failed images dropped", "mixed": "failed images dropped in some trials"}
    return notes.get(row["on_failed"], "")


def read(store: ResultsStore, query: str, **values: Any) -> pd.DataFrame:
    """The rows of a query with `:name` parameters; a list is the right side of an IN."""
    several = [
        bindparam(name, expanding=True, type_=String())
        for name, value in values.items()
        if isinstance(value, list)
    ]
    with store.reading() as connection:
        return pd.read_sql(text(query).bindparams(*several), connection, params=values)


def last_plan(store: ResultsStore, experiment: str) -> dict[str, Any]:
    """What the experiment's last launch planned; empty where there is none, or it is no mapping."""
    found = read(store, LAST_PLAN, experiment=experiment)["plan"]
    plan = json.loads(found[0]) if len(found) else {}
    return plan if isinstance(plan, dict) else {}


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries by column name, NULL as None."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def rows_of(store: ResultsStore, view: str, wanted: Where, every_form: bool) -> pd.DataFrame:
    """Rows of `view` with their `form`, where each column that is given is the text, or one of the texts."""
    form = None if every_form else "present"
    return selected(store, f"{view}_by_form", {**wanted, "form": form})


def selected(store: ResultsStore, view: str, wanted: Where) -> pd.DataFrame:
    given = {name: value for name, value in wanted.items() if value is not None}
    terms = [f"{name} {'IN' if isinstance(value, list) else '='} :{name}" for name, value in given.items()]
    condition = " AND ".join(terms) or "1 = 1"
    return read(store, f"SELECT * FROM {view} WHERE {condition}", **given)


def _configurations(store: ResultsStore, experiment: str, every_form: bool) -> list[str]:
    store.experiment_summary(experiment)  # refuses one that is not there
    query = (
        "SELECT DISTINCT config_id FROM trial JOIN asked_trial ON trial_id = id "
        "WHERE experiment = :experiment" + ("" if every_form else " AND form = 'present'")
    )
    return list(read(store, query, experiment=experiment)["config_id"])


def varying_knobs(table: pd.DataFrame) -> list[str]:
    """`k_top=5 segmenter.name=slic` for each row: the knobs in which its method's rows differ.

    A knob that only some rows have, as those of nested components, is shown if these differ.
    """
    knobs = [flat_config(config) for config in table["config"]]
    values: dict[tuple[str, str], set[str]] = {}
    for method, own in zip(table["method"], knobs, strict=True):
        for name, value in own.items():
            values.setdefault((method, name), set()).add(value)
    return [
        " ".join(f"{name}={value}" for name, value in own.items() if len(values[method, name]) > 1)
        for method, own in zip(table["method"], knobs, strict=True)
    ]


def flat_config(config: str) -> dict[str, str]:
    leaves = flattened(json.loads(config))
    return {
        ".".join(path): value if isinstance(value, str) else json.dumps(value)
        for path, value in leaves
        if path != ("seed",)
    }
