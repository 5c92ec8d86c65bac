"""Two methods, or two configurations, seed by seed."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.intervals import interval_of_difference
from analysis.tables import one_warning, read
from grid.results.store import ResultsStore

BASELINE = "standard"
PLANNED = """
SELECT DISTINCT t.dataset, t.config_id, t.seed FROM trial t JOIN asked_trial e ON e.trial_id = t.id
WHERE e.experiment = :experiment AND e.form IN :forms
"""
SCORES = """
SELECT DISTINCT t.id, t.dataset, t.method, t.config_id, t.config, t.seed, t.warning, m.group_name,
  m.value AS score
FROM trial t JOIN asked_trial e ON e.trial_id = t.id JOIN metric m ON m.trial_id = t.id
WHERE e.experiment = :experiment AND e.form IN :forms AND t.status = 'done' AND m.name = :metric
  AND m.split = :split AND m.selection = :selection AND m.step IS NULL AND m.value IS NOT NULL
"""


@dataclass(frozen=True)
class Wanted:
    """Which number of which experiment is compared."""

    experiment: str
    metric: str = "worst_group_accuracy"
    split: str = "test"
    selection: str = "last"
    dataset: str | None = None
    every_form: bool = False

    def scores(self, store: ResultsStore, split: str, *, groups: bool = False) -> pd.DataFrame:
        """A row for each trial of the experiment that has the number of all images or, with `groups`, for
        each of its groups."""
        table = read(
            store, SCORES, experiment=self.experiment, forms=self.forms, metric=self.metric, split=split,
            selection=self.selection,
        )  # fmt: skip
        wanted = (table["group_name"] == "all") != groups
        return table[wanted if self.dataset is None else wanted & (table["dataset"] == self.dataset)]

    @property
    def forms(self) -> list[str]:
        """Of the experiment, which count."""
        return ["present", "earlier"] if self.every_form else ["present"]


def compare(store: ResultsStore, wanted: Wanted, a: str, b: str) -> pd.DataFrame:
    """`b` minus `a` on each data set over the seeds that both have, with its 95 % interval.

    `a` and `b` are methods or beginnings of configuration ids. A method with several
    configurations stands for the one that is best on the validation split, so that the choice has
    not seen the test split; chosen_a_from and chosen_b_from: of how many. `n` seeds of `n_planned`,
    those that the experiment asks for of either; `warning` of a trial of either. Raises LookupError
    if there is nothing to compare.
    """
    scores = wanted.scores(store, wanted.split)
    validation = wanted.scores(store, "val")
    planned = read(store, PLANNED, experiment=wanted.experiment, forms=wanted.forms)
    found = [
        _difference(wanted.metric, dataset, rows, _of(validation, dataset), _of(planned, dataset), a, b)
        for dataset, rows in scores.groupby("dataset")
        if named(rows, a).any() and named(rows, b).any()
    ]
    if not found:
        raise LookupError(f"no data set of {wanted.experiment!r} has numbers for {a!r} and {b!r}")
    return pd.DataFrame(found)


def _of(table: pd.DataFrame, dataset: Any) -> pd.DataFrame:
    rows: pd.DataFrame = table[table["dataset"] == dataset]
    return rows


def named(rows: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """Which rows are of the method, or of the configuration whose id begins so."""
    methods = rows["method"] == name
    return methods if methods.any() else rows["config_id"].str.startswith(name)


def _difference(
    metric: str,
    dataset: Any,
    rows: pd.DataFrame,
    validation: pd.DataFrame,
    planned: pd.DataFrame,
    a: str,
    b: str,
) -> dict[str, Any]:
    (one, of_a), (two, of_b) = (_one_configuration(rows, validation, name) for name in (a, b))
    both = pd.concat([_by_seed(rows, one), _by_seed(rows, two)], axis=1, keys=["a", "b"]).dropna()
    low, high = interval_of_difference(both["b"] - both["a"], metric)
    return {
        "dataset": dataset,
        "a": f"{a} {one[:8]}",
        "b": f"{b} {two[:8]}",
        "chosen_a_from": of_a,
        "chosen_b_from": of_b,
        "n": len(both),
        "n_planned": planned[planned["config_id"].isin([one, two])]["seed"].nunique(),
        "mean_a": both["a"].mean(),
        "mean_b": both["b"].mean(),
        "difference": (both["b"] - both["a"]).mean(),
        "ci_low": low,
        "ci_high": high,
        "warning": one_warning(rows[rows["config_id"].isin([one, two])]["warning"]),
    }


def _one_configuration(rows: pd.DataFrame, validation: pd.DataFrame, name: str) -> tuple[str, int]:
    """The configuration that the name stands for, and of how many."""
    configurations = rows[named(rows, name)]["config_id"].unique()
    if len(configurations) == 1:
        return str(configurations[0]), 1
    candidates = validation[validation["config_id"].isin(configurations)]
    if candidates.empty:
        raise LookupError(f"{name!r} has {len(configurations)} configurations and none has numbers "
                          "on the validation split to choose by: name one by its id")  # fmt: skip
    return str(candidates.groupby("config_id")["score"].mean().idxmax()), candidates["config_id"].nunique()


def _by_seed(rows: pd.DataFrame, config_id: str) -> "pd.Series[float]":
    return rows[rows["config_id"] == config_id].groupby("seed")["score"].mean()
