"""Two methods that explain the same images, image by image: how often they choose the same mask, and which of
them ranks better. n images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from analysis.compare import Wanted, named
from analysis.tables import one_warning, read
from grid.results.store import ResultsStore
from grid.stores.evidence import LeftEvidence

TRIALS = """
SELECT DISTINCT t.id, t.dataset, t.method, t.config_id, t.seed, t.artifacts_uri, t.warning,
  s.stage_key AS segments
FROM trial t JOIN asked_trial e ON e.trial_id = t.id
LEFT JOIN trial_stage s ON s.trial_id = t.id AND s.name = 'segments'
WHERE e.experiment = :experiment AND e.form IN :forms AND t.status = 'done'
"""
RESAMPLES = 10_000


@dataclass(frozen=True)
class Explained:
    """One trial's images int64 (n,), ascending; the position of each one's best mask int64 (n,), -1 where it
    has none; and a score of each, float (n,), NaN where there is none."""

    image_ids: NDArray[np.int64]
    top_mask: NDArray[np.int64]
    scores: NDArray[np.float64]

    def rows(self, image_ids: NDArray[np.int64]) -> "Explained":
        """Of some of its images."""
        found = np.isin(self.image_ids, image_ids)
        return Explained(self.image_ids[found], self.top_mask[found], self.scores[found])


def done_trials(store: ResultsStore, wanted: Wanted) -> pd.DataFrame:
    """A row for each done trial of the experiment, with where its evidence lies."""
    trials = read(store, TRIALS, experiment=wanted.experiment, forms=wanted.forms)
    return trials if wanted.dataset is None else trials[trials["dataset"] == wanted.dataset]


def agreement(top_a: NDArray[np.int64], top_b: NDArray[np.int64]) -> float:
    """Share of the images (n,) in which both choose the same mask, of those that have masks; NaN without."""
    chosen = (top_a >= 0) & (top_b >= 0)
    return float((top_a[chosen] == top_b[chosen]).mean()) if chosen.any() else float("nan")


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of (n,) over images, by the bootstrap's percentiles with a fixed stream; NaN
    for fewer than two images. Of paired differences, it is the paired interval."""
    if len(values) < 2:
        return float("nan"), float("nan")
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def agreements(store: ResultsStore, wanted: Wanted, a: str, b: str) -> pd.DataFrame:
    """A row for each data set and seed that both have: images that both explained, the share in which they
    choose the same mask (none where they rank other masks), means of the metric and `b` minus `a` over the
    images with masks, with its interval; `warning` of either trial.

    a, b: methods, or beginnings of configuration ids. Raises LookupError where there is nothing to compare,
    where a method has several configurations, or where its trials kept no scores of this name.
    """
    trials = done_trials(store, wanted)
    pairs = pd.merge(_named(trials, a), _named(trials, b), on=["dataset", "seed"], suffixes=("_a", "_b"))
    if pairs.empty:
        raise LookupError(f"no data set and seed of {wanted.experiment!r} has trials of both {a!r} and {b!r}")
    rows: list[dict[str, Any]] = []
    for pair in pairs.to_dict("records"):
        one, two = (
            explained(pair[f"artifacts_uri_{side}"], pair[f"id_{side}"], wanted.metric) for side in "ab"
        )
        row = _paired(one, two)
        if pair["segments_a"] != pair["segments_b"]:
            row["agreement"] = float("nan")
        warning = one_warning([pair["warning_a"], pair["warning_b"]])
        rows.append(
            {"dataset": pair["dataset"], "seed": pair["seed"], "a": a, "b": b, **row, "warning": warning}
        )
    return pd.DataFrame(rows).sort_values(["dataset", "seed"], ignore_index=True)


def _paired(one: Explained, two: Explained) -> dict[str, float]:
    both = np.intersect1d(one.image_ids, two.image_ids)
    one, two = one.rows(both), two.rows(both)
    scored = ~(np.isnan(one.scores) | np.isnan(two.scores))
    difference = two.scores[scored] - one.scores[scored]
    low, high = mean_interval(difference)
    empty = len(difference) == 0
    return {
        "n": len(both),
        "agreement": agreement(one.top_mask, two.top_mask),
        "mean_a": float("nan") if empty else float(one.scores[scored].mean()),
        "mean_b": float("nan") if empty else float(two.scores[scored].mean()),
        "difference": float("nan") if empty else float(difference.mean()),
        "ci_low": low,
        "ci_high": high,
    }


def _named(trials: pd.DataFrame, name: str) -> pd.DataFrame:
    found = trials[named(trials, name)]
    if found["config_id"].nunique() > 1:
        ids = ", ".join(sorted(config[:8] for config in found["config_id"].unique()))
        raise LookupError(f"{name!r} has several configurations, name one of them: {ids}")
    return found


def explained(uri: str, trial: str, metric: str) -> Explained:
    """What a trial kept of each image; LookupError where it kept none, or no scores of this name,
    BrokenEvidence where they are not what it wrote."""
    tensors = LeftEvidence(trial, uri).tensors()
    missing = {"image_ids", "top_mask", metric} - set(tensors)
    if missing:
        raise LookupError(f"trial {trial} kept no {sorted(missing)[0]} of each image")
    return Explained(tensors["image_ids"], tensors["top_mask"], tensors[metric].astype(np.float64))
