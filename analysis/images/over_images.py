"""Scores that trials kept of each image: how sure their means are over images, where seeds are few."""

import numpy as np
import pandas as pd

from analysis.compare import Wanted
from analysis.images.agreement import done_trials, explained, mean_interval
from grid.results.store import ResultsStore


def over_images(
    store: ResultsStore, experiment: str, scores: pd.DataFrame, every_form: bool = False
) -> pd.DataFrame:
    """The rows of `tables.scores` with `n` images, the mean over them of each one's mean over the seeds, and
    its 95 % interval by the bootstrap.

    Raises LookupError for a metric that trials do not keep of each image.
    """
    trials = done_trials(store, Wanted(experiment, every_form=every_form))
    rows = []
    for row in scores.to_dict("records"):
        own = trials[(trials["dataset"] == row["dataset"]) & (trials["config_id"] == row["config_id"])]
        if own.empty:  # its seeds all failed
            rows.append(row)
            continue
        kept = [explained(t["artifacts_uri"], t["id"], row["metric"]) for t in own.to_dict("records")]
        of_images = pd.concat([pd.Series(trial.scores, trial.image_ids) for trial in kept]).dropna()
        means = np.asarray(of_images.groupby(level=0).mean(), np.float64)
        low, high = mean_interval(means)
        rows.append({**row, "n": len(means), "mean": means.mean(), "ci_low": low, "ci_high": high})
    return pd.DataFrame(rows)
