"""Configurations that no other beats in every number that is asked for."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables import read, scores
from grid.results.store import ResultsStore

SECONDS = """
SELECT t.dataset, t.config_id, AVG(t.seconds) AS seconds
FROM trial t JOIN (SELECT DISTINCT trial_id FROM asked_trial WHERE experiment = :experiment) e
  ON e.trial_id = t.id
WHERE t.status = 'done' GROUP BY t.dataset, t.config_id
"""
KEY = ["dataset", "method", "config_id", "knobs", "selection"]


def pareto(
    store: ResultsStore,
    experiment: str,
    most: list[str],
    least: list[str],
    *,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "test",
    selections: Sequence[str] = ("last",),
    every_form: bool = False,
) -> pd.DataFrame:
    """A row for each configuration that has all of the numbers, with their means over seeds.

    The more of `most` and the less of `least`, the better. `unbeaten` says that no other configuration on the
    data set is as good in every number and better in one. `seconds`, a trial's own time, is a number of
    every configuration. `n` is the smallest number of seeds.

    Means are compared as they are: which of two near ones is larger may be chance.

    Raises LookupError for an experiment that is not in the store and for a metric that it has not.
    """
    metrics = [name for name in [*most, *least] if name != "seconds"]
    table = scores(
        store, experiment, metrics, dataset=dataset, method=method, split=split, selections=selections,
        every_form=every_form,
    )  # fmt: skip
    wide = table.pivot(index=KEY, columns="metric", values="mean").reset_index()
    fewest = table.groupby("config_id")["n"].min().rename("n")
    wide = wide.merge(fewest, on="config_id").merge(
        read(store, SECONDS, experiment=experiment), on=["dataset", "config_id"]
    )
    wide = wide.dropna(subset=[*most, *least]).reset_index(drop=True)
    wide["unbeaten"] = False
    for _, rows in wide.groupby("dataset"):
        better = np.column_stack([rows[most].to_numpy(float), -rows[least].to_numpy(float)])
        wide.loc[rows.index, "unbeaten"] = unbeaten(better)
    order = ["dataset", "unbeaten", (most or least)[0]]
    columns = list(dict.fromkeys([*KEY, *most, *least, "n", "unbeaten"]))
    return wide.sort_values(order, ascending=[True, False, not most], ignore_index=True)[columns]


def unbeaten(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of rows of numbers, the more the better: whether no other row is as good in all and better in one."""
    as_good = (numbers[:, None] >= numbers[None]).all(axis=2)  # row i against row j
    better = (numbers[:, None] > numbers[None]).any(axis=2)
    beaten: NDArray[np.bool_] = np.any(as_good & better, axis=0)
    return ~beaten
