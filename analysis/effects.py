"""What knobs do to a metric: the view `ablation`, with differences to any value and corrected p-values."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from analysis.compare import t_interval
from analysis.tables import Where, common_notes, rows_of, selected
from grid.results.store import ResultsStore

SERIES = ["form", "dataset", "data_fingerprint", "method", "method_version", "parameter", "group_name"]
COLUMNS = ["reference", "difference", "difference_ci_low", "difference_ci_high"]
BySeed = dict[tuple[Any, ...], pd.DataFrame]


def effects(
    store: ResultsStore,
    experiment: str,
    *,
    metric: str = "worst_group_accuracy",
    split: str = "test",
    selection: str = "last",
    parameter: str | None = None,
    method: str | None = None,
    to: str | None = None,
    every_form: bool = False,
) -> pd.DataFrame:
    """Rows of the view `ablation`: the knob with the largest difference first, its values in order.

    With `every_form` those of `ablation_by_form`: what only an earlier form of the experiment asked for has
    rows of its own. `to`: the value that differences are to, of every knob that has it, in place of the
    smallest one. `p` is the two-sided p-value of a paired t-test over seeds, `p_holm` the same corrected by
    Holm's method for all differences in the table.

    Raises LookupError for an experiment that is not in the store, and for a `to` that no knob has.
    """
    store.experiment_summary(experiment)
    wanted: Where = {
        "experiment": experiment,
        "metric": metric,
        "split": split,
        "selection": selection,
        "parameter": parameter,
        "method": method,
    }
    table = rows_of(store, "ablation", wanted, every_form)
    by_seed = _by_seed(selected(store, "ablation_cell", wanted).dropna(subset="score"))
    if to is not None and not table.empty:
        table = _against(table, by_seed, to)
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


def _against(table: pd.DataFrame, by_seed: BySeed, to: str) -> pd.DataFrame:
    """The table with differences to the value `to`."""
    having = set(_keys(table[(table["value"] == to) & (table["n"] > 0)]))
    if not having:
        knobs = table[table["n"] > 0].groupby("parameter")["value"].unique()
        there = "; ".join(f"{name}: {', '.join(values)}" for name, values in knobs.items())
        raise LookupError(f"no knob has the value {to!r}; there are {there or 'no knobs'}")
    gains = [_gains(by_seed, key, value, to) for key, value in zip(_keys(table), table["value"], strict=True)]
    references = [to if key in having else None for key in _keys(table)]
    found = [
        (reference, own.mean(), *t_interval(own)) for reference, own in zip(references, gains, strict=True)
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
    return float(2 * student_t.sf(abs(float(gains.mean())) / error, n - 1))


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
        f"{int(row['trials_nan'])} trials without a number" if row["trials_nan"] else "",
    ]
    return ", ".join(filter(None, [unpaired, *lost, *common_notes(row)]))
