"""Accuracy of each group, and what changed against a baseline."""

import pandas as pd

from analysis.compare import BASELINE, named, t_interval
from analysis.tables import read, varying_knobs
from grid.results.store import ResultsStore

SCORES = """
SELECT DISTINCT t.id, t.dataset, t.method, t.config_id, t.config, t.seed, m.group_name, m.value AS score
FROM experiment_trial e JOIN trial t ON t.id = e.trial_id JOIN metric m ON m.trial_id = t.id
WHERE e.experiment = :experiment AND t.status = 'done' AND m.step IS NULL AND m.name = :metric
  AND m.split = :split AND m.selection = :selection AND m.group_name <> 'all' AND m.value IS NOT NULL
"""
LINE = ["dataset", "method", "config_id", "group_name"]


def groups(
    store: ResultsStore,
    experiment: str,
    *,
    metric: str = "group_accuracy",
    baseline: str | None = None,
    split: str = "test",
    selection: str = "last",
) -> pd.DataFrame:
    """A row for each configuration and group: `mean` over `n` seeds with a 95 % t-interval, and `difference`,
    paired by seed, to the configuration of the same data set that `baseline` names: a method with one
    configuration, or the beginning of a configuration's id. `standard` where it is None and there is one.

    Raises LookupError for an experiment that is not in the store or has no such metric of groups, and for a
    baseline that it has not, or has several of.
    """
    store.experiment_summary(experiment)
    found = read(store, SCORES, experiment=experiment, metric=metric, split=split, selection=selection)
    if found.empty:
        raise LookupError(f"{experiment} has no {metric} of groups ({split}, {selection})")
    table = found.groupby(["dataset", "method", "config_id", "config", "group_name"])["score"].agg(
        ["mean", "count"]
    )
    table = table.rename(columns={"count": "n"}).reset_index()
    by_seed = {line: rows.groupby("seed")["score"].mean() for line, rows in found.groupby(LINE)}
    bases = {dataset: _baseline(rows, baseline) for dataset, rows in table.groupby("dataset")}
    if baseline is not None and not any(bases.values()):
        raise LookupError(f"{experiment} has no configuration {baseline!r}")
    rows = []
    for row in table.to_dict("records"):
        own, base = by_seed[tuple(row[name] for name in LINE)], bases[row["dataset"]]
        row["ci_low"], row["ci_high"] = t_interval(own)
        other = by_seed.get((row["dataset"], *base, row["group_name"])) if base else None
        is_base = base == (row["method"], row["config_id"])
        gains = pd.Series(dtype=float) if other is None or is_base else (own - other).dropna()
        row["baseline"] = base[0] if base else None
        row["difference"] = gains.mean() if len(gains) else None
        row["difference_ci_low"], row["difference_ci_high"] = t_interval(gains)
        rows.append(row)
    done = pd.DataFrame(rows).sort_values(LINE, ignore_index=True)
    return done.assign(knobs=varying_knobs(done)).drop(columns="config")


def _baseline(rows: pd.DataFrame, name: str | None) -> tuple[str, str] | None:
    """Method and configuration of the baseline."""
    one = rows[named(rows, name or BASELINE)][["method", "config_id"]].drop_duplicates()
    if len(one) > 1 and name is not None:
        raise LookupError(f"{name!r} has {len(one)} configurations: name one by its id")
    return (str(one.iloc[0]["method"]), str(one.iloc[0]["config_id"])) if len(one) == 1 else None
