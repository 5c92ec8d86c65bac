"""Published numbers beside ours, and in what ours differ from the publication's."""

from typing import Any

import pandas as pd

from analysis.tables import Where, flat_config, last_plan, read, records, selected, varying_knobs
from grid.results.store import ResultsStore

ORDER = ["dataset", "paper", "table_name", "row_name", "setting", "metric", "config_id"]
ASKED_BY = """
SELECT t.config_id, MAX(e.experiment) AS experiment FROM trial t JOIN experiment_trial e ON e.trial_id = t.id
WHERE t.config_id IN :ids GROUP BY t.config_id
"""
UNSAID = "knobs not said"


def reported(store: ResultsStore, wanted: Where) -> pd.DataFrame:
    """Rows of the view `reported_vs_measured` whose columns are as wanted, by where they were published, and
    `knobs` of our configurations: a row for each that has the method, metric, split and selection.

    `departs`: the knobs that are not the publication's, as `name=ours (theirs)`, and a number of images that
    is not; empty where all that is known of the publication is the same; UNSAID where no knob of it is known.
    Data set and split are the same by name, or there is no row. None where nothing was measured.
    """
    table = selected(store, "reported_vs_measured", wanted).sort_values(ORDER, ignore_index=True)
    images = _images(store, table)
    table["knobs"] = varying_knobs(table.assign(config=table["config"].fillna("{}")))
    table["departs"] = pd.Series([_departs(row, images) for row in records(table)], table.index, dtype=object)
    return table


def _departs(row: dict[str, Any], images: dict[tuple[str, str, str], int]) -> str | None:
    if row["config_id"] is None:
        return None
    ours = flat_config(row["config"])
    theirs = dict(knob.split("=", 1) for knob in (row["reported_knobs"] or "").split())
    other = [name for name, value in theirs.items() if ours.get(name) != value]
    found = [f"{name}={ours.get(name)} ({theirs[name]})" for name in other]
    measured, published = images.get((row["config_id"], row["dataset"], row["split"])), row["reported_images"]
    if measured and published and measured != published:
        found.append(f"{measured} images ({int(published)})")
    return ", ".join(found if theirs else [UNSAID, *found])


def _images(store: ResultsStore, table: pd.DataFrame) -> dict[tuple[str, str, str], int]:
    """By configuration, data set and split: images, as an experiment's last launch planned them."""
    asked = read(store, ASKED_BY, ids=sorted(set(table["config_id"].dropna())))
    plans = {name: last_plan(store, name).get("group_sizes", {}) for name in asked["experiment"].unique()}
    return {
        (row["config_id"], dataset, split): sum(groups.values())
        for row in records(asked)
        for dataset, splits in plans[row["experiment"]].items()
        for split, groups in splits.items()
    }
