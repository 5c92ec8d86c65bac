"""The tables that people ask for, as data frames made from the views."""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd
from sqlalchemy import String, bindparam, text

from grid.results.entry import GENERATOR, flattened
from grid.results.store import ResultsStore

LAST_PLAN = "SELECT plan FROM launch WHERE experiment = :experiment ORDER BY id DESC LIMIT 1"
GENERATORS = """
SELECT DISTINCT t.data_fingerprint, p.name, p.value FROM trial t JOIN trial_param p ON p.trial_id = t.id
WHERE t.data_fingerprint IN :prints AND SUBSTR(p.name, 1, 10) = 'generator.'
"""
DRAWN_ANEW = "drawn anew"  # in place of a fingerprint, where every value of a knob is other data
VARIANTS = """
SELECT t.config_id, MIN(e.variant) AS variant FROM asked_trial e JOIN trial t ON t.id = e.trial_id
WHERE e.experiment = :experiment GROUP BY t.config_id
"""
CONFIGURATION = ["form", "dataset", "data_fingerprint", "method", "config_id"]
LOST = (("seeds_failed", "failed"), ("seeds_stopped", "stopped early"), ("seeds_nan", "without a number"))
Where = Mapping[str, str | list[str] | None]  # by column: the value, or one of the values


def leaderboard(
    store: ResultsStore,
    *,
    experiment: str | None = None,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "test",
    selections: Sequence[str] = ("last",),
    every_form: bool = False,
) -> pd.DataFrame:
    """Rows of the view `leaderboard`, the best worst group first, and `knobs`: those of a method
    that vary within the table. With `experiment`, the configurations that it asks for; their
    seeds are those of the whole store. With `every_form` also
    configurations that only an earlier form of an experiment asked for. selections: rules by which weights
    were chosen; all numbers of a configuration are of the first that has as many of them as any. Raises
    LookupError for an experiment that is not in the store.
    """
    asked = None if experiment is None else _configurations(store, experiment, every_form)
    wanted: Where = {
        "dataset": dataset,
        "method": method,
        "split": split,
        "selection": list(selections),
        "config_id": asked,
    }
    table = of_one_selection(rows_of(store, "leaderboard", wanted, every_form), selections, CONFIGURATION)
    table = table.sort_values("worst_group_accuracy", ascending=False, ignore_index=True)
    return named(store, table, experiment)


def scores(
    store: ResultsStore,
    experiment: str,
    metrics: Sequence[str],
    *,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "test",
    selections: Sequence[str] = ("last",),
    group: str = "all",
    every_form: bool = False,
) -> pd.DataFrame:
    """Any metrics of an experiment's configurations: rows of the view `score`, a column `metric` and its
    statistics, and `knobs` as in `leaderboard`. selections, every_form and LookupError as there, and
    for a metric that no trial of the experiment has."""
    asked = _configurations(store, experiment, every_form)
    wanted: Where = {
        "dataset": dataset,
        "method": method,
        "split": split,
        "selection": list(selections),
        "group_name": group,
        "config_id": asked,
    }
    found = rows_of(store, "score", {**wanted, "metric": list(metrics)}, every_form)
    table = of_one_selection(found, selections, CONFIGURATION)
    absent = [name for name in metrics if not (table["metric"] == name).any()]
    if absent:
        there = set(rows_of(store, "score", wanted, every_form)["metric"])
        near = get_close_matches(absent[0], sorted(there), n=4, cutoff=0.3)
        where = ", ".join(filter(None, [dataset, method, split, " or ".join(selections), group]))
        raise LookupError(f"{experiment} has no {absent[0]} ({where}); closest: {near}")
    return named(store, table, experiment)


def named(store: ResultsStore, table: pd.DataFrame, experiment: str | None = None) -> pd.DataFrame:
    """The table with the columns `knobs`, in which its configurations of a method, or the drawings of their
    data, differ, and `variant`, as the experiment calls it."""
    if experiment is not None:
        names = read(store, VARIANTS, experiment=experiment).set_index("config_id")["variant"]
        table = table.assign(variant=table["config_id"].map(names))
    return table.assign(knobs=varying_knobs(table, _generators(store, table)))


def data_names(store: ResultsStore, table: pd.DataFrame, but: str | None = None) -> list[str]:
    """For each row its data set and, where the table has several drawings of it, the knobs of the generator
    in which they differ. but: one that does not count."""
    drawn = {one: _without_prefix(knobs) for one, knobs in _generators(store, table).items()}
    values: dict[tuple[str, str], set[str]] = {}
    pairs = list(zip(table["dataset"], table["data_fingerprint"], strict=True))
    for dataset, one in pairs:
        for name, value in drawn.get(one, {}).items():
            if name != but:
                values.setdefault((dataset, name), set()).add(value)
    told = [
        [
            f"{name}={value}"
            for name, value in drawn.get(one, {}).items()
            if len(values.get((dataset, name), ())) > 1
        ]
        for dataset, one in pairs
    ]
    return [
        f"{dataset} ({', '.join(own) or DRAWN_ANEW})" if own or one == DRAWN_ANEW else dataset
        for (dataset, one), own in zip(pairs, told, strict=True)
    ]


def _generators(store: ResultsStore, table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The knobs of what drew the data, by fingerprint; `generator.` begins their names."""
    found = read(store, GENERATORS, prints=list(table["data_fingerprint"].unique()))
    return {
        str(one): dict(zip(rows["name"], rows["value"], strict=True))
        for one, rows in found.groupby("data_fingerprint")
    }


def _without_prefix(knobs: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(f"{GENERATOR}."): value for name, value in knobs.items()}


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


def of_one_selection(table: pd.DataFrame, selections: Sequence[str], key: list[str]) -> pd.DataFrame:
    """Of the rows that are alike in `key`, those of one selection: of the one with most rows, so that nothing
    is lost, and of equals the first."""
    if len(selections) == 1:
        return table
    counts = table.groupby([*key, "selection"]).size().reset_index(name="rows")
    counts["place"] = counts["selection"].map(list(selections).index)
    counts = counts.sort_values(["rows", "place"], ascending=[False, True]).drop_duplicates(key)
    return table.merge(counts[[*key, "selection"]])


def varying_knobs(table: pd.DataFrame, drawn: Mapping[str, Mapping[str, str]] | None = None) -> list[str]:
    """`k_top=5 segmenter.name=slic` for each row: the knobs in which its method's rows differ, with those of
    what drew their data, by fingerprint.

    A knob that only some rows have, as those of nested components, is shown if these differ.
    """
    knobs = [flat_config(config) for config in table["config"]]
    if drawn:
        prints = table["data_fingerprint"]
        knobs = [{**own, **drawn.get(one, {})} for own, one in zip(knobs, prints, strict=True)]
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
