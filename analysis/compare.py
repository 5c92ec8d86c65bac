"""Two methods, or two configurations, seed by seed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.intervals import interval_of_difference
from analysis.protocol import Protocol, best
from analysis.tables import flat_config, of_one_selection, one_warning, read
from grid.results.store import ResultsStore

BASELINE = "standard"
PLANNED = """
SELECT DISTINCT t.config_id, t.seed FROM trial t JOIN asked_trial e ON e.trial_id = t.id
WHERE e.experiment IN :experiments AND e.form IN :forms
"""
SCORES = """
SELECT DISTINCT t.id, t.dataset, t.data_fingerprint AS drawing, t.method, t.config_id, t.config, t.seed,
  t.warning, t.seconds, m.group_name, m.selection, m.value AS score
FROM trial t JOIN asked_trial e ON e.trial_id = t.id JOIN metric m ON m.trial_id = t.id
WHERE e.experiment IN :experiments AND e.form IN :forms AND t.status = 'done' AND m.name = :metric
  AND m.split = :split AND m.selection IN :selections AND m.step IS NULL
"""
EVERY_DRAWING = "all"


@dataclass(frozen=True)
class Wanted:
    """Which number of which experiment is compared. protocol: how weights and configurations are chosen;
    others: experiments with the same configurations on other drawings of the data."""

    experiment: str
    metric: str = "worst_group_accuracy"
    split: str = "test"
    protocol: Protocol = Protocol()
    dataset: str | None = None
    every_form: bool = False
    others: tuple[str, ...] = ()

    def scores(self, store: ResultsStore, split: str, *, groups: bool = False) -> pd.DataFrame:
        """A row for each trial with the number of all images or, with `groups`, for each of its groups.
        `setting`: method and knobs, which a configuration has on every drawing."""
        return self._scores(store, split, self.metric, groups)

    def validation(self, store: ResultsStore, scores: pd.DataFrame) -> pd.DataFrame:
        """The numbers on the validation split by which one of a method's configurations is chosen, as
        `scores`, and under the same weights as these."""
        table = self._scores(store, "val", self.chosen_by, groups=False)
        weights = scores.drop_duplicates("config_id").set_index("config_id")["selection"]
        same = table["config_id"].map(weights)
        return table[same.isna() | (same == table["selection"])]

    @property
    def chosen_by(self) -> str:
        """The number by which configurations are chosen."""
        return self.protocol.metric or self.metric

    def _scores(self, store: ResultsStore, split: str, metric: str, groups: bool) -> pd.DataFrame:
        selections = self.protocol.selections
        table = read(
            store, SCORES, experiments=self.experiments, forms=self.forms, metric=metric, split=split,
            selections=list(selections),
        )  # fmt: skip
        wanted = (table["group_name"] == "all") != groups
        table = table[wanted if self.dataset is None else wanted & (table["dataset"] == self.dataset)]
        table = of_one_selection(table, selections, ["dataset", "method", "config_id"])
        return with_settings(table.dropna(subset="score"))

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
    test split; chosen_a_from and chosen_b_from: of how many; selection_a and selection_b: the rule of the
    weights. `n` seeds of `n_planned`, those that the experiment asks for of either; `warning` of a trial of
    either.

    A data set that was drawn more than once has a row more, whose `drawing` is "all": means over the
    drawings, of which there are `n`, and an interval over them. Seeds and drawings both vary, and means over
    the seeds of one drawing share its data: with as many seeds in each, the drawings' means are independent
    and hold both parts.

    Raises LookupError for an experiment that is not in the store, and if there is nothing to compare.
    """
    for name in wanted.experiments:
        store.experiment_summary(name)
    scores = wanted.scores(store, wanted.split)
    validation = wanted.validation(store, scores)
    planned = read(store, PLANNED, experiments=wanted.experiments, forms=wanted.forms)
    found = [
        row
        for dataset, rows in scores.groupby("dataset")
        if named(rows, a).any() and named(rows, b).any()
        for row in _differences(wanted, rows, validation[validation["dataset"] == dataset], planned, a, b)
    ]
    if not found:
        raise LookupError(f"no data set of {wanted.experiment!r} has numbers for {a!r} and {b!r}")
    return pd.DataFrame(found)


def named(rows: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """Which rows are of the method, or of the configuration whose id begins so."""
    methods = rows["method"] == name
    return methods if methods.any() else rows["config_id"].str.startswith(name)


def _differences(
    wanted: Wanted, rows: pd.DataFrame, validation: pd.DataFrame, planned: pd.DataFrame, a: str, b: str
) -> Iterator[dict[str, Any]]:
    """Those of one data set: of each drawing and, if there are several, of all."""
    (one, of_a), (two, of_b) = (
        one_configuration(rows, validation, name, "setting", wanted.protocol.tie) for name in (a, b)
    )
    rows = rows[rows["setting"].isin([one, two])]
    weights = rows.drop_duplicates("setting").set_index("setting")["selection"]
    told = {
        "dataset": rows["dataset"].iloc[0],
        "chosen_a_from": of_a,
        "chosen_b_from": of_b,
        "selection_a": weights[one],
        "selection_b": weights[two],
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
            **_paired(both, wanted.metric),
        }
        means.append(both.mean())
    if len(means) > 1:
        drawn = pd.DataFrame(means).dropna()
        yield told | {
            "drawing": EVERY_DRAWING,
            "a": a,
            "b": b,
            "n_planned": len(means),
            **_paired(drawn, wanted.metric),
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
    rows: pd.DataFrame, validation: pd.DataFrame, name: str, by: str = "config_id", tie: str = "knobs"
) -> tuple[str, int]:
    """The value in the column `by` that the name stands for, and of how many. validation: as `Wanted` has it;
    tie: as `Protocol` has it."""
    found = rows[named(rows, name)][by].unique()
    if len(found) == 1:
        return str(found[0]), 1
    candidates = validation[validation[by].isin(found)]
    if candidates.empty:
        raise LookupError(f"{name!r} has {len(found)} configurations and none has numbers "
                          "on the validation split to choose by: name one by its id")  # fmt: skip
    means = by_setting(candidates)
    chosen = candidates[candidates["setting"] == best(means, tie)]
    return str(chosen[by].iloc[0]), len(means)


def by_setting(scores: pd.DataFrame) -> pd.DataFrame:
    """Of each setting the mean `score` over the drawings' means over seeds, and mean `seconds`."""
    of_drawings = scores.groupby(["setting", "drawing"])["score"].mean()
    seconds = scores.groupby("setting")["seconds"].mean()
    return pd.DataFrame({"score": of_drawings.groupby(level="setting").mean(), "seconds": seconds})


def with_settings(scores: pd.DataFrame) -> pd.DataFrame:
    """With the column `setting`: method and knobs, which a configuration has on every drawing."""
    known = scores.drop_duplicates("config_id")[["config_id", "method", "config"]]
    settings = {
        config_id: f"{method} {json.dumps(flat_config(config), sort_keys=True)}"
        for config_id, method, config in known.itertuples(index=False)
    }
    return scores.assign(setting=scores["config_id"].map(settings))
