"""What an experiment says, in a sentence computed from its numbers."""

from typing import Any

import pandas as pd

from analysis.compare import BASELINE, EVERY_DRAWING, Wanted, compare
from grid.results.store import ResultsStore

METRICS = ("worst_group_accuracy", "average_accuracy")


def by_validation(
    store: ResultsStore, experiment: str, dataset: str, leaders: pd.DataFrame
) -> tuple[str, pd.DataFrame]:
    """The metric that configurations of a data set are chosen by, and those that have it on the validation
    split, the highest mean first: the worst group or, where there are no groups, the average.

    leaders: rows of the leaderboard of the data set. No row where nothing can be chosen so.
    """
    for metric in METRICS:
        scores = Wanted(experiment, metric).scores(store, "val")
        means = scores[scores["dataset"] == dataset].groupby("config_id")["score"].mean()
        known = leaders.assign(validation=leaders["config_id"].map(means)).dropna(subset=["validation"])
        known = known.sort_values(["validation", "config_id"], ascending=[False, True])
        if len(known) and not pd.isna(known.iloc[0][metric]):
            return metric, known
    return METRICS[-1], leaders[:0]


def verdict(store: ResultsStore, experiment: str, dataset: str, metric: str, best: "pd.Series[Any]") -> str:
    """The configuration that is best on the validation split, its number on the test split, and the
    difference to `standard`, paired by seed. metric and best: as `by_validation` chooses."""
    name = f"{best['method']}" + (f" ({best['knobs']})" if best["knobs"] else "")
    said = (
        f"Best on validation by {metric.replace('_', ' ')}: {name}. On the test split it has "
        f"{best[metric]:.3f}"
    )
    if best["method"] == BASELINE:
        return f"{said}, and is the baseline itself."
    try:
        table = compare(store, Wanted(experiment, metric), BASELINE, str(best["config_id"]))
        one = table[table["dataset"] == dataset].iloc[-1]  # of all drawings, if there are several
    except LookupError:  # an IndexError is one too: the baseline may have other data sets only
        return f"{said}; there is no {BASELINE} to compare it with."
    said = f"{said}, {one['difference']:+.3f}"
    to = f"to {BASELINE} ({one['mean_a']:.3f})"
    low, high = one["ci_low"], one["ci_high"]
    if pd.isna(low):
        return f"{said} {to}; one seed does not say how sure this is."
    none = "" if low > 0 or high < 0 else " The interval holds zero: no difference is shown."
    over = "drawings of the data" if one["drawing"] == EVERY_DRAWING else "seeds"
    return f"{said} [{low:+.3f}, {high:+.3f}] {to}, paired over {one['n']} {over}.{none}"
