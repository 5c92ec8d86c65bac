"""What an experiment says, in a sentence computed from its numbers."""

from dataclasses import dataclass

import pandas as pd

from analysis.compare import BASELINE, EVERY_DRAWING, Wanted, by_setting, compare
from analysis.protocol import Protocol, best
from analysis.tables import varying_knobs
from grid.results.store import ResultsStore

METRICS = ("worst_group_accuracy", "average_accuracy")


@dataclass(frozen=True)
class Chosen:
    """Of the leaderboard of one data set: `rows` of the configuration of each method that is best on the
    validation split by the number `by`, the best of all first; a configuration on several drawings of the
    data has a row for each. metric: the number that says how good it is, of the worst group or, where there
    are no groups, the average. No rows where nothing can be chosen so."""

    metric: str
    by: str
    rows: pd.DataFrame

    @property
    def best(self) -> pd.DataFrame:
        """The rows of the best of all."""
        best: pd.DataFrame = self.rows[self.rows["setting"] == self.rows["setting"].iloc[0]]
        return best


def by_validation(
    store: ResultsStore, experiment: str, dataset: str, leaders: pd.DataFrame, protocol: Protocol
) -> Chosen:
    """What the protocol chooses, which by default goes by the metric. leaders: rows of the leaderboard of the
    data set."""
    for metric in METRICS:
        wanted = Wanted(experiment, metric, protocol=protocol, dataset=dataset)
        found = wanted.validation(store, leaders)
        found = found[found["config_id"].isin(leaders["config_id"])]
        if found.empty:
            continue
        means, methods = by_setting(found), found.groupby("setting")["method"].first()
        first = means.loc[[best(own, protocol.tie) for _, own in means.groupby(methods)]]
        first = first.sort_values("score", ascending=False, kind="stable")
        order = dict.fromkeys([best(first, protocol.tie), *first.index])
        places = {setting: place for place, setting in enumerate(order)}
        of_id = found.drop_duplicates("config_id").set_index("config_id")["setting"]
        rows = leaders.assign(setting=leaders["config_id"].map(of_id))
        rows = rows.assign(place=rows["setting"].map(places)).dropna(subset="place")
        rows = rows.sort_values("place", kind="stable").drop(columns="place")
        if leaders["data_fingerprint"].nunique() > 1:  # what is chosen for all drawings is none of one
            rows = rows.assign(knobs=pd.Series(varying_knobs(leaders), leaders.index))
        if not pd.isna(rows.iloc[0][metric]):
            return Chosen(metric, wanted.chosen_by, rows)
    return Chosen(METRICS[-1], METRICS[-1], leaders[:0])


def chosen_ids(store: ResultsStore, experiment: str, leaders: pd.DataFrame, protocol: Protocol) -> set[str]:
    """Ids of the configurations that `by_validation` chooses on any data set."""
    return {
        config_id
        for dataset, rows in leaders.groupby("dataset")
        for config_id in by_validation(store, experiment, str(dataset), rows, protocol).rows["config_id"]
    }


def verdict(store: ResultsStore, experiment: str, dataset: str, chosen: Chosen, protocol: Protocol) -> str:
    """The configuration that is best on the validation split, its number on the test split, and the
    difference to `standard`, paired by seed. chosen: with rows."""
    best, metric = chosen.best.iloc[0], chosen.metric
    name = f"{best['method']}" + (f" ({best['knobs']})" if best["knobs"] else "")
    number = f"{chosen.best[metric].mean():.3f}" + (f" by {_words(metric)}" if chosen.by != metric else "")
    said = f"Best on validation by {_words(chosen.by)}: {name}. On the test split it has {number}"
    if best["method"] == BASELINE:
        return f"{said}, and is the baseline itself."
    try:
        table = compare(
            store, Wanted(experiment, metric, protocol=protocol), BASELINE, str(best["config_id"])
        )
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


def _words(metric: str) -> str:
    return metric.replace("_", " ")
