"""What an experiment says, in a sentence computed from its numbers."""

from typing import Any

import pandas as pd

from analysis.compare import BASELINE, Wanted, compare
from grid.results.store import ResultsStore

METRICS = ("worst_group_accuracy", "average_accuracy")


def verdict(store: ResultsStore, experiment: str, dataset: str, leaders: pd.DataFrame) -> str:
    """The configuration that is best on the validation split, its number on the test split, and the
    difference to `standard`, paired by seed.

    It goes by the worst group or, where there are no groups, by the average. leaders: rows of the
    leaderboard, for the names of configurations. Empty where nothing can be chosen so.
    """
    for metric in METRICS:
        wanted = Wanted(experiment, metric)
        validation = wanted.scores(store, "val")
        means = validation[validation["dataset"] == dataset].groupby("config_id")["score"].mean()
        row = leaders[leaders["config_id"] == means.idxmax()] if len(means) else leaders[:0]
        if len(row) and not pd.isna(row.iloc[0][metric]):
            return _sentence(store, wanted, dataset, row.iloc[0])
    return ""


def _sentence(store: ResultsStore, wanted: Wanted, dataset: str, best: "pd.Series[Any]") -> str:
    name = f"{best['method']}" + (f" ({best['knobs']})" if best["knobs"] else "")
    said = (
        f"Best on validation by {wanted.metric.replace('_', ' ')}: {name}. On the test split it has "
        f"{best[wanted.metric]:.3f}"
    )
    if best["method"] == BASELINE:
        return f"{said}, and is the baseline itself."
    try:
        table = compare(store, wanted, BASELINE, str(best["config_id"]))
        one = table[table["dataset"] == dataset].iloc[-1]  # of all drawings, if there are several
    except LookupError:  # an IndexError is one too: the baseline may have other data sets only
        return f"{said}; there is no {BASELINE} to compare it with."
    said = f"{said}, {one['difference']:+.3f}"
    to = f"to {BASELINE} ({one['mean_a']:.3f})"
    low, high = one["ci_low"], one["ci_high"]
    if pd.isna(low):
        return f"{said} {to}; one seed does not say how sure this is."
    none = "" if low > 0 or high < 0 else " The interval holds zero: no difference is shown."
    return f"{said} [{low:+.3f}, {high:+.3f}] {to}, paired over {one['n']} seeds.{none}"
