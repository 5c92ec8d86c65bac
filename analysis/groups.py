"""Accuracy of each group, and what changed against a baseline."""

import pandas as pd

from analysis.compare import BASELINE, Wanted, named, one_configuration
from analysis.intervals import interval_of_difference, interval_of_mean, wilson
from analysis.tables import last_plan, varying_knobs
from grid.results.store import ResultsStore

LINE = ["dataset", "method", "config_id", "group_name"]


def groups(store: ResultsStore, wanted: Wanted, *, baseline: str | None = None) -> pd.DataFrame:
    """A row for each configuration and group: `mean` over `n` seeds with its 95 % interval, and `difference`,
    paired by seed, to the configuration of the same data set that `baseline` names: a method with one
    configuration, or the beginning of a configuration's id. `standard` where it is None and there is one.

    `images` of the group are in the split, as the experiment's last launch planned it; None if unsaid.
    Seeds share these images, so that the intervals do not hold the chance of which images were drawn:
    images_ci_low and images_ci_high, Wilson's interval of the mean as a share of that many images, for
    accuracies of groups, say how much that is.

    selection: the rule of the weights. Where the protocol names an accuracy to choose by, a baseline with
    several configurations stands for the one that is best on the validation split; baseline_id is its id.

    Raises LookupError for an experiment that is not in the store or has no such metric of groups, and for a
    baseline that it has not, or has several of.
    """
    store.experiment_summary(wanted.experiment)
    found = wanted.scores(store, wanted.split, groups=True)
    if found.empty:
        where = f"{wanted.split}, {' or '.join(wanted.protocol.selections)}"
        raise LookupError(f"{wanted.experiment} has no {wanted.metric} of groups ({where})")
    columns = ["dataset", "method", "config_id", "config", "selection", "group_name"]
    table = found.groupby(columns)["score"].agg(["mean", "count"])
    table = table.rename(columns={"count": "n"}).reset_index()
    chosen_by = wanted.validation(store, found) if wanted.protocol.metric else found[:0]
    by_seed = {line: rows.groupby("seed")["score"].mean() for line, rows in found.groupby(LINE)}
    bases = {
        dataset: _baseline(rows, baseline, chosen_by[chosen_by["dataset"] == dataset], wanted.protocol.tie)
        for dataset, rows in table.groupby("dataset")
    }
    if baseline is not None and not any(bases.values()):
        raise LookupError(f"{wanted.experiment} has no configuration {baseline!r}")
    sizes = _sizes(store, wanted)
    rows = []
    for row in table.to_dict("records"):
        own, base = by_seed[tuple(row[name] for name in LINE)], bases[row["dataset"]]
        row["ci_low"], row["ci_high"] = interval_of_mean(own, wanted.metric)
        row["images"] = sizes.get((row["dataset"], row["group_name"]))
        row["images_ci_low"], row["images_ci_high"] = _of_images(row["mean"], row["images"], wanted.metric)
        other = by_seed.get((row["dataset"], *base, row["group_name"])) if base else None
        is_base = base == (row["method"], row["config_id"])
        gains = pd.Series(dtype=float) if other is None or is_base else (own - other).dropna()
        row["baseline"], row["baseline_id"] = base or (None, None)
        row["difference"] = gains.mean() if len(gains) else None
        row["difference_ci_low"], row["difference_ci_high"] = interval_of_difference(gains, wanted.metric)
        rows.append(row)
    done = pd.DataFrame(rows).sort_values(LINE, ignore_index=True)
    return done.assign(knobs=varying_knobs(done)).drop(columns="config")


def _sizes(store: ResultsStore, wanted: Wanted) -> dict[tuple[str, str], int]:
    """Images by data set and group."""
    planned = last_plan(store, wanted.experiment).get("group_sizes", {})
    return {
        (dataset, group): size
        for dataset, splits in planned.items()
        for group, size in splits.get(wanted.split, {}).items()
    }


def _of_images(mean: float, images: int | None, metric: str) -> tuple[float | None, float | None]:
    if not images or "accuracy" not in metric or not 0 <= mean <= 1:
        return None, None
    return wilson(mean, images)


def _baseline(
    rows: pd.DataFrame, name: str | None, validation: pd.DataFrame, tie: str
) -> tuple[str, str] | None:
    """Method and configuration of the baseline. validation: numbers to choose one by, if any."""
    one = rows[named(rows, name or BASELINE)][["method", "config_id"]].drop_duplicates()
    if validation["config_id"].isin(one["config_id"]).any():
        chosen, _ = one_configuration(rows, validation, name or BASELINE, tie=tie)
        one = one[one["config_id"] == chosen]
    if len(one) > 1 and name is not None:
        raise LookupError(f"{name!r} has {len(one)} configurations: name one by its id")
    return (str(one.iloc[0]["method"]), str(one.iloc[0]["config_id"])) if len(one) == 1 else None
