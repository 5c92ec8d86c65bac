"""Two methods, or two configurations, seed by seed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.intervals import interval_of_difference
from analysis.tables import flat_config, one_warning, read
from grid.results.store import ResultsStore

BASELINE = "standard"
PLANNED = """
SELECT DISTINCT t.config_id, t.seed FROM trial t JOIN asked_trial e ON e.trial_id = t.id
WHERE e.experiment IN :experiments AND e.form IN :forms
"""
SCORES = """
SELECT DISTINCT t.id, t.dataset, t.data_fingerprint AS drawing, t.method, t.config_id, t.config, t.seed,
  t.warning, m.group_name, m.value AS score
FROM trial t JOIN asked_trial e ON e.trial_id = t.id JOIN metric m ON m.trial_id = t.id
WHERE e.experiment IN :experiments AND e.form IN :forms AND t.status = 'done' AND m.name = :metric
  AND m.split = :split AND m.selection = :selection AND m.step IS NULL AND m.value IS NOT NULL
"""
EVERY_DRAWING = "all"


@dataclass(frozen=True)
class Wanted:
    """Which number of which experiment is compared. others: experiments with the same configurations on other
    drawings of the data."""

    experiment: str
    metric: str = "worst_group_accuracy"
    split: str = "test"
    selection: str = "last"
    dataset: str | None = None
    every_form: bool = False
    others: tuple[str, ...] = ()

    def scores(self, store: ResultsStore, split: str, *, groups: bool = False) -> pd.DataFrame:
        """A row for each trial with the number of all images or, with `groups`, for each of its groups."""
        table = read(
            store, SCORES, experiments=self.experiments, forms=self.forms, metric=self.metric, split=split,
            selection=self.selection,
        )  # fmt: skip
        wanted = (table["group_name"] == "all") != groups
        return table[wanted if self.dataset is None else wanted & (table["dataset"] == self.dataset)]

    @property
    def experiments(self) -> list[str]:
        """The experiment and the others."""
        return [self.experiment, *self.others]

    @property
    def forms(self) -> list[str]:
        """Forms of the experiments that count."""
        return ["present", "earlier"] if self.every_form else ["present"]


def compare(store: ResultsStore, wanted: Wanted, a: str, b: str) -> pd.DataFrame:
    """`b` minus `a` on each drawing of each data set over the seeds that both have, with its 95 % interval.

    `a` and `b` are methods or beginnings of configuration ids. A method with several configurations stands
    for the one that is best on the validation split, over all drawings, so that the choice has not seen the
    test split; chosen_a_from and chosen_b_from: of how many. `n` seeds of `n_planned`, those that the
    experiment asks for of either; `warning` of a trial of either.

    A data set that was drawn more than once has a row more, whose `drawing` is "all": means over the
    drawings, of which there are `n`, and an interval over them. Seeds and drawings both vary, and means over
    the seeds of one drawing share its data: with as many seeds in each, the drawings' means are independent
    and hold both parts.

    Raises LookupError for an experiment that is not in the store, and if there is nothing to compare.
    """
    for name in wanted.experiments:
        store.experiment_summary(name)
    scores, validation = (_with_settings(wanted.scores(store, split)) for split in (wanted.split, "val"))
    planned = read(store, PLANNED, experiments=wanted.experiments, forms=wanted.forms)
    found = [
        row
        for dataset, rows in scores.groupby("dataset")
        if named(rows, a).any() and named(rows, b).any()
        for row in _differences(
            wanted.metric, rows, validation[validation["dataset"] == dataset], planned, a, b
        )
    ]
    if not found:
        raise LookupError(f"no data set of {wanted.experiment!r} has numbers for {a!r} and {b!r}")
    return pd.DataFrame(found)


def named(rows: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """Which rows are of the method, or of the configuration whose id begins so."""
    methods = rows["method"] == name
    return methods if methods.any() else rows["config_id"].str.startswith(name)


def _differences(
    metric: str, rows: pd.DataFrame, validation: pd.DataFrame, planned: pd.DataFrame, a: str, b: str
) -> Iterator[dict[str, Any]]:
    """Those of one data set: of each drawing and, if there are several, of all."""
    (one, of_a), (two, of_b) = (one_configuration(rows, validation, name, "setting") for name in (a, b))
    rows = rows[rows["setting"].isin([one, two])]
    told = {
        "dataset": rows["dataset"].iloc[0],
        "chosen_a_from": of_a,
        "chosen_b_from": of_b,
        "warning": one_warning(rows["warning"]),
    }
    means = []
    for drawing, own in rows.groupby("drawing"):
        both = own.pivot_table(index="seed", columns="setting", values="score").reindex(columns=[one, two])
        both = both.dropna().set_axis(["a", "b"], axis=1)
        ids = own.drop_duplicates("setting").set_index("setting")["config_id"]
        yield told | {
            "drawing": str(drawing)[:8],
            **{side: f"{name} {ids.get(own, '')[:8]}" for side, name, own in (("a", a, one), ("b", b, two))},
            "n_planned": planned[planned["config_id"].isin(ids)]["seed"].nunique(),
            **_paired(both, metric),
        }
        means.append(both.mean())
    if len(means) > 1:
        drawn = pd.DataFrame(means).dropna()
        yield told | {
            "drawing": EVERY_DRAWING,
            "a": a,
            "b": b,
            "n_planned": len(means),
            **_paired(drawn, metric),
        }


def _paired(both: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Statistics of columns a and b, a row for each pair."""
    gains = both["b"] - both["a"]
    low, high = interval_of_difference(gains, metric)
    return {
        "n": len(both),
        "mean_a": both["a"].mean(),
        "mean_b": both["b"].mean(),
        "difference": gains.mean(),
        "ci_low": low,
        "ci_high": high,
    }


def one_configuration(
    rows: pd.DataFrame, validation: pd.DataFrame, name: str, by: str = "config_id"
) -> tuple[str, int]:
    """The value in the column `by` that the name stands for, and of how many. validation: `Wanted.scores`."""
    found = rows[named(rows, name)][by].unique()
    if len(found) == 1:
        return str(found[0]), 1
    candidates = validation[validation[by].isin(found)]
    if candidates.empty:
        raise LookupError(f"{name!r} has {len(found)} configurations and none has numbers "
                          "on the validation split to choose by: name one by its id")  # fmt: skip
    means = candidates.groupby([by, "drawing"])["score"].mean().groupby(level=by).mean()
    return str(means.idxmax()), len(means)


def _with_settings(scores: pd.DataFrame) -> pd.DataFrame:
    """`setting`: method and knobs, which a configuration has on every drawing."""
    known = scores.drop_duplicates("config_id")[["config_id", "method", "config"]]
    settings = {
        config_id: f"{method} {json.dumps(flat_config(config), sort_keys=True)}"
        for config_id, method, config in known.itertuples(index=False)
    }
    return scores.assign(setting=scores["config_id"].map(settings))
