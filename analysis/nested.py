"""Nested cross-validation over drawings of the data: a method is judged on each drawing with the
configuration that the other drawings chose."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compare import BASELINE, EVERY_DRAWING, Wanted, named, with_settings
from analysis.intervals import interval_of_difference, interval_of_mean
from analysis.protocol import best
from analysis.tables import data_names, one_warning, read, varying_knobs
from grid.results.store import ResultsStore

PLANNED = """
SELECT DISTINCT t.dataset, t.data_fingerprint AS drawing, t.method, t.config_id, t.config, t.seed
FROM trial t JOIN asked_trial e ON e.trial_id = t.id
WHERE e.experiment IN :experiments AND e.form IN :forms
"""
NOTHING: "pd.Series[float]" = pd.Series(dtype=float)


@dataclass(frozen=True)
class Nested:
    """rows: for each data set and method one of each drawing and one of all; left_out: a line for what was
    drawn once, or has no numbers to choose by.

    On a drawing, `chosen` (the knobs that vary) and config_id are what the others chose, of chosen_from;
    `mean` over `n` of n_planned seeds with its 95 % interval; `difference` to what is chosen likewise for the
    `baseline`, paired by seed. plain_chosen, plain_id and plain_mean: what the drawing's own validation split
    chooses; plain_gain: plain_mean less mean. selection: the rule of the weights; `warning` of a trial.
    In the row of all drawings, means and intervals are over the drawings' means, of which there are `n`, and
    `chosen` says how often what was chosen.
    """

    rows: pd.DataFrame
    left_out: list[str]


def nested(store: ResultsStore, wanted: Wanted, *, baseline: str | None = None) -> Nested:
    """Chooses for each drawing of a data set by the validation numbers of its other drawings, and reads what
    was chosen on this one: nothing of a drawing has a part in the choice that it judges. Drawings of a data
    set differ in nothing but the generator's seed; with other knobs they are other data, and named so.

    baseline: a method or the beginning of a configuration's id; `standard`, where it is None and there is
    one. The choices for two drawings share the validation numbers of all others, so that their means are not
    quite independent: intervals are approximate, and with few drawings wide.

    Raises LookupError for an experiment that is not in the store, for a baseline that it has not, and where
    no data set was drawn twice, or nothing can be chosen.
    """
    for name in wanted.experiments:
        store.experiment_summary(name)
    trials = with_settings(read(store, PLANNED, experiments=wanted.experiments, forms=wanted.forms))
    trials = trials if wanted.dataset is None else trials[trials["dataset"] == wanted.dataset]
    alike = data_names(store, trials.rename(columns={"drawing": "data_fingerprint"}), but="seed")
    trials = trials.assign(knobs=varying_knobs(trials), dataset=alike)
    if baseline is not None and not named(trials, baseline).any():
        raise LookupError(f"{', '.join(wanted.experiments)}: no configuration {baseline!r}")
    drawn = trials.groupby("dataset")["drawing"].nunique()
    if not (drawn > 1).any():
        raise LookupError(_drawn_once(wanted, list(drawn.index)))
    scores = wanted.scores(store, wanted.split)
    names = trials.drop_duplicates("drawing").set_index("drawing")["dataset"]
    validation, scores = (
        table.assign(dataset=table["drawing"].map(names))
        for table in (wanted.validation(store, scores), scores)
    )
    rows: list[dict[str, Any]] = []
    left_out = [f"{dataset} is left out: it was drawn once" for dataset in drawn.index[drawn == 1]]
    for dataset in drawn.index[drawn > 1]:
        own, test, val = (table[table["dataset"] == dataset] for table in (trials, scores, validation))
        folds = _Folds(own, test, val, wanted.protocol.tie)
        base = folds.choices(baseline or BASELINE)
        for method in sorted(folds.trials["method"].unique()):
            chosen = folds.choices(str(method))
            told = {
                "dataset": dataset,
                "method": method,
                "baseline": None if base.empty else baseline or BASELINE,
            }
            of_method = folds.rows(told, chosen, base, wanted.metric)
            if of_method[-1]["n"] > 1:
                rows += of_method
            else:
                left_out.append(
                    f"{dataset}: {method} is left out: {of_method[-1]['n']} of {len(of_method) - 1} drawings "
                    "have a number of what the validation split of the others chose"
                )
    if not rows:
        raise LookupError("; ".join(left_out))
    return Nested(pd.DataFrame(rows), left_out)


def _drawn_once(wanted: Wanted, datasets: list[str]) -> str:
    what = (
        f"{', '.join(datasets)} was drawn once"
        if len(datasets) == 1
        else f"{', '.join(datasets)} were each drawn once"
        if datasets
        else "there is no trial"
    )
    return (
        f"{', '.join(wanted.experiments)}: {what}, and nested cross-validation needs two drawings or more: "
        "sweep the generator's seed in the spec (datasets: [{name: NAME, generator: {seed: [0, 1, 2]}}]), "
        "or add an experiment on another drawing with --drawing EXPERIMENT"
    )


def choices(validation: pd.DataFrame, asked: Mapping[str, list[str]], tie: str = "knobs") -> pd.DataFrame:
    """A row for each drawing with what is `chosen` for it by the means over the other drawings, of
    chosen_from, and what its own numbers choose (`plain`); None where there are no numbers to choose by.

    validation: columns setting, drawing, score and seconds, a row for each trial; asked: the settings that
    can be chosen on each drawing, with a number there or not. A setting without a number on one of the other
    drawings, of those where any has one, is not compared with the rest; a setting alone needs no number.
    """
    means = validation.groupby(["setting", "drawing"])[["score", "seconds"]].mean()
    score, seconds = (means[name].unstack() for name in ("score", "seconds"))
    rows = {}
    for drawing, settings in asked.items():
        found = score.reindex(index=settings).dropna(axis=1, how="all")
        others = found.drop(columns=drawing, errors="ignore").dropna()
        own = found[[drawing]].dropna() if drawing in found else found[[]][:0]
        rows[drawing] = {
            **{
                name: settings[0] if len(settings) == 1 else _best(numbers, seconds, tie)
                for name, numbers in (("chosen", others), ("plain", own))
            },
            "chosen_from": 1 if len(settings) == 1 else 0 if others.empty else len(others),
        }
    columns = ["chosen", "plain", "chosen_from"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=object)


def _best(score: pd.DataFrame, seconds: pd.DataFrame, tie: str) -> str | None:
    if score.empty:
        return None
    own = seconds.loc[score.index, score.columns]
    return best(pd.DataFrame({"score": score.mean(axis=1), "seconds": own.mean(axis=1)}), tie)


class _Folds:
    """The drawings of one data set: planned trials, test numbers and validation numbers."""

    def __init__(
        self, trials: pd.DataFrame, scores: pd.DataFrame, validation: pd.DataFrame, tie: str
    ) -> None:
        self.trials, self._validation, self._tie = trials, validation, tie
        self._scores = dict(iter(scores.groupby(["setting", "drawing"])))
        self._planned = dict(iter(trials.groupby(["setting", "drawing"])))

    def choices(self, name: str) -> pd.DataFrame:
        """`choices` of the method, or the configuration; empty where there is none."""
        own = self.trials[named(self.trials, name)]
        settings = own["setting"].unique()
        own = self.trials[self.trials["setting"].isin(settings)]
        asked = {str(drawing): sorted(rows["setting"].unique()) for drawing, rows in own.groupby("drawing")}
        return choices(self._validation[self._validation["setting"].isin(settings)], asked, self._tie)

    def rows(
        self, told: dict[str, Any], chosen: pd.DataFrame, base: pd.DataFrame, metric: str
    ) -> list[dict[str, Any]]:
        """One of each drawing, and the last of all."""
        rows, is_base = [], chosen["chosen"].equals(base["chosen"])
        for drawing, choice in zip(map(str, chosen.index), chosen.to_dict("records"), strict=True):
            own, plain = (self._by_seed(choice[name], drawing) for name in ("chosen", "plain"))
            to = self._by_seed(base["chosen"].get(drawing), drawing)
            found = self._scores.get((choice["chosen"], drawing), self._validation[:0])
            rows.append(
                told
                | {
                    "drawing": drawing[:8],
                    **self._named("chosen", "config_id", choice["chosen"], drawing),
                    "chosen_from": choice["chosen_from"],
                    "n_planned": self._planned[choice["chosen"], drawing]["seed"].nunique()
                    if choice["chosen"] else 0,
                    **_statistics(own, NOTHING if is_base else (own - to).dropna(), metric),
                    **self._named("plain_chosen", "plain_id", choice["plain"], drawing),
                    "plain_mean": plain.mean(),
                    "plain_gain": plain.mean() - own.mean(),
                    "selection": found["selection"].iloc[0] if len(found) else None,
                    "warning": one_warning(found["warning"]),
                }
            )  # fmt: skip
        return [*rows, told | _over(pd.DataFrame(rows), metric)]

    def _by_seed(self, setting: str | None, drawing: str) -> "pd.Series[float]":
        found = self._scores.get((setting, drawing))
        return NOTHING if found is None else found.groupby("seed")["score"].mean()

    def _named(self, name: str, id_name: str, setting: str | None, drawing: str) -> dict[str, str | None]:
        if setting is None:
            return {name: None, id_name: None}
        one = self._planned[setting, drawing].iloc[0]
        return {name: one["knobs"], id_name: one["config_id"]}


def _statistics(values: "pd.Series[float]", gains: "pd.Series[float]", metric: str) -> dict[str, Any]:
    low, high = interval_of_mean(values, metric)
    gain_low, gain_high = interval_of_difference(gains, metric)
    return {
        "n": len(values), "mean": values.mean(), "ci_low": low, "ci_high": high,
        "difference": gains.mean(), "difference_ci_low": gain_low, "difference_ci_high": gain_high,
    }  # fmt: skip


def _over(rows: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Of all drawings, each of which counts once."""
    known = rows.dropna(subset="mean")
    gains = known["plain_gain"].dropna()
    low, high = interval_of_difference(gains, metric)
    return {
        "drawing": EVERY_DRAWING,
        "chosen": _how_often(known["chosen"], len(rows)),
        "chosen_from": rows["chosen_from"].max(),
        "n_planned": len(rows),
        **_statistics(known["mean"], known["difference"].dropna(), metric),
        "plain_chosen": _how_often(rows["plain_chosen"].dropna(), len(rows)),
        "plain_mean": rows["plain_mean"].mean(),
        "plain_gain": gains.mean(),
        "plain_gain_ci_low": low,
        "plain_gain_ci_high": high,
        "selection": known["selection"].iloc[0] if len(known) else None,
        "warning": one_warning(rows["warning"]),
    }


def _how_often(chosen: "pd.Series[str]", drawings: int) -> str:
    """`k_top=10 (2 of 3), k_top=5 (1 of 3)`; empty where no knob varies."""
    return ", ".join(f"{knobs} ({n} of {drawings})" for knobs, n in Counter(chosen).most_common() if knobs)
