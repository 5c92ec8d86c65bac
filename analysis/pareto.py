"""Configurations that no other beats in every number that is asked for."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.tables import read, scores
from grid.results.front import unbeaten
from grid.results.store import ResultsStore

if TYPE_CHECKING:
    from grid.spec.search import Search

SECONDS = """
SELECT t.dataset, t.config_id, AVG(t.seconds) AS seconds
FROM trial t JOIN (SELECT DISTINCT trial_id FROM asked_trial WHERE experiment = :experiment) e
  ON e.trial_id = t.id
WHERE t.status = 'done' GROUP BY t.dataset, t.config_id
"""
KEY = ["dataset", "data_fingerprint", "method", "config_id", "knobs", "selection"]


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
    among: Collection[str] | None = None,
) -> pd.DataFrame:
    """A row for each configuration that has all of the numbers, with their means over seeds. among: ids of
    those that count; None: all.

    The more of `most` and the less of `least`, the better. `unbeaten` says that no other configuration on the
    data is as good in every number and better in one. `seconds`, a trial's own time, is a number of
    every configuration. `n` is the smallest number of seeds.

    Means are compared as they are: which of two near ones is larger may be chance.

    Raises LookupError for an experiment that is not in the store and for a metric that it has not.
    """
    metrics = [name for name in [*most, *least] if name != "seconds"]
    table = scores(
        store, experiment, metrics, dataset=dataset, method=method, split=split, selections=selections,
        every_form=every_form,
    )  # fmt: skip
    table = table if among is None else table[table["config_id"].isin(among)]
    wide = table.pivot(index=KEY, columns="metric", values="mean").reset_index()
    fewest = table.groupby("config_id")["n"].min().rename("n")
    wide = wide.merge(fewest, on="config_id").merge(
        read(store, SECONDS, experiment=experiment), on=["dataset", "config_id"]
    )
    wide = wide.dropna(subset=[*most, *least]).reset_index(drop=True)
    wide["unbeaten"] = False
    for _, rows in wide.groupby(["dataset", "data_fingerprint"]):
        better = np.column_stack([rows[most].to_numpy(float), -rows[least].to_numpy(float)])
        wide.loc[rows.index, "unbeaten"] = unbeaten(better)
    order = ["dataset", "unbeaten", (most or least)[0]]
    columns = list(dict.fromkeys([*KEY, *most, *least, "n", "unbeaten"]))
    return wide.sort_values(order, ascending=[True, False, not most], ignore_index=True)[columns]


def keeps(store: ResultsStore, experiment: str, search: "Search") -> list[str]:
    """Ids of the configurations whose done trials all keep the conditions of a search."""
    from grid.planning.goals import kept
    from grid.results import history

    with store.reading() as connection:
        return [
            one.config_id
            for one in history.done_configurations(connection, experiment)
            if kept(connection, search, one.trials)
        ]
