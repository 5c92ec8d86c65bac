"""What knobs do to a metric: the view `ablation`, with differences to any value and corrected p-values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from analysis.intervals import interval_of_difference
from analysis.tables import Where, common_notes, last_plan, of_one_selection, rows_of, selected
from grid.results.store import ResultsStore

SERIES = ["form", "dataset", "data_fingerprint", "method", "method_version", "parameter", "group_name"]
COLUMNS = ["reference", "difference", "difference_ci_low", "difference_ci_high"]
DEFAULT = "default"
BySeed = dict[tuple[Any, ...], pd.DataFrame]


def effects(
    store: ResultsStore,
    experiment: str,
    *,
    parameter: str | None = None,
    dataset: str | None = None,
    method: str | None = None,
    metric: str = "worst_group_accuracy",
    split: str = "test",
    selections: Sequence[str] = ("last",),
    to: str | None = None,
    every_form: bool = False,
) -> pd.DataFrame:
    """Rows of the view `ablation`: the knob with the largest difference first, its values in order.

    With `every_form` those of `ablation_by_form`: what only an earlier form of the experiment asked for has
    rows of its own. `to`: the value that differences are to, of every knob that has it, in place of the
    smallest one; `default` is what the method has where a spec says nothing, as the last launch planned it.
    `p` is the two-sided p-value of a paired t-test over seeds, `p_holm` the same corrected by Holm's method
    for all differences in the table. selections: rules by which weights were chosen; a method has the first
    that as many of its rows have as any.

    Raises LookupError for an experiment that is not in the store, and for a `to` that no knob has.
    """
    store.experiment_summary(experiment)
    wanted: Where = {
        "experiment": experiment,
        "dataset": dataset,
        "metric": metric,
        "split": split,
        "selection": list(selections),
        "parameter": parameter,
        "method": method,
    }
    whole = ["form", "dataset", "data_fingerprint", "method"]
    table = of_one_selection(rows_of(store, "ablation", wanted, every_form), selections, whole)
    cells = selected(store, "ablation_cell", wanted).merge(table[[*whole, "selection"]].drop_duplicates())
    by_seed = _by_seed(cells.dropna(subset="score"))
    if to is not None and not table.empty:
        table = _against(table, by_seed, _references(store, experiment, table, to), metric)
    table = table.astype(dict.fromkeys(COLUMNS[1:], float))  # objects, where all are NULL
    asked = zip(_keys(table), table["value"], table["reference"], strict=True)
    table = table.assign(p=[_p_value(_gains(by_seed, *one)) for one in asked]).astype({"p": float})
    table["p_holm"] = holm(table["p"])
    largest = table["difference"].abs().groupby([table[name] for name in SERIES]).transform("max")
    order = ["form", "largest", *SERIES[1:], "place"]
    return (
        table.assign(largest=largest.fillna(0.0))
        .sort_values(order, ascending=[False, False, *[True] * 7], ignore_index=True)
        .drop(columns="largest")
    )


def _references(store: ResultsStore, experiment: str, table: pd.DataFrame, to: str) -> dict[Any, str]:
    """The value that differences are to, by series: of those that have it."""
    defaults = last_plan(store, experiment).get("defaults", {}) if to == DEFAULT else {}
    rows = table[table["n"] > 0]
    wanted = [
        defaults.get(method, {}).get(parameter) if to == DEFAULT else to
        for method, parameter in zip(rows["method"], rows["parameter"], strict=True)
    ]
    found = {
        key: value for key, value, one in zip(_keys(rows), rows["value"], wanted, strict=True) if value == one
    }
    if not found:
        values = rows.groupby("parameter")["value"].unique()
        there = "; ".join(f"{name}: {', '.join(own)}" for name, own in values.items()) or "no knobs"
        what = "its default" if to == DEFAULT else f"the value {to!r}"
        raise LookupError(f"no knob has {what} among its values; there are {there}")
    return found


def _against(table: pd.DataFrame, by_seed: BySeed, to: dict[Any, str], metric: str) -> pd.DataFrame:
    """The table with differences to these values, by series."""
    references = [to.get(key) for key in _keys(table)]
    asked = zip(_keys(table), table["value"], references, strict=True)
    gains = [_gains(by_seed, key, value, reference) for key, value, reference in asked]
    found = [
        (reference, own.mean(), *interval_of_difference(own, metric))
        for reference, own in zip(references, gains, strict=True)
    ]
    return table.assign(**pd.DataFrame(found, columns=COLUMNS, index=table.index))


def _by_seed(cells: pd.DataFrame) -> BySeed:
    """By series: seeds by values, each the mean over the configurations that have every value."""
    complete = {
        key: rows.pivot(index=["seed", "rest"], columns="value", values="score").dropna()
        for key, rows in cells.groupby(SERIES, sort=False)
    }
    return {key: rows.groupby("seed").mean() for key, rows in complete.items()}


def _keys(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table[SERIES].itertuples(index=False, name=None))


def _gains(by_seed: BySeed, key: tuple[Any, ...], value: str, reference: str | None) -> "pd.Series[float]":
    """By seed, `value` less `reference`; empty for the reference itself, and where one has no scores."""
    means = by_seed.get(key)
    if means is None or value == reference or not {value, reference} <= set(means.columns):
        return pd.Series(dtype=float)
    return means[value] - means[reference]


def _p_value(gains: "pd.Series[float]") -> float:
    """Of a paired t-test; NaN for one seed. Where all gains are one number it is 0, or 1 if that is 0."""
    n = len(gains)
    if n < 2:
        return np.nan
    error = float(gains.std(ddof=1)) / n**0.5
    if error == 0:
        return float(gains.mean() == 0)
    return float(2 * stdtr(n - 1, -abs(float(gains.mean())) / error))


def holm(p: "pd.Series[float]") -> "pd.Series[float]":
    """p-values of one family, corrected so that the chance of any false discovery stays below the level that
    they are compared with (Holm 1979). NaN stays NaN, and is not counted."""
    ordered = p.dropna().sort_values()
    left = len(ordered) - np.arange(len(ordered))
    return (ordered * left).cummax().clip(upper=1.0).reindex(p.index)


def effect_note(row: Any) -> str:
    """What a reader must know of a row."""
    unpaired = "" if row["paired"] or not row["n"] else "unpaired"
    lost = [
        f"{int(row['trials_failed'])} trials failed" if row["trials_failed"] else "",
        f"{int(row['trials_stopped'])} trials stopped early" if row["trials_stopped"] else "",
        f"{int(row['trials_nan'])} trials without a number" if row["trials_nan"] else "",
    ]
    return ", ".join(filter(None, [unpaired, *lost, *common_notes(row)]))
