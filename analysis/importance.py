"""Which knobs matter for a metric, by evaluators of Optuna."""

import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna import create_study, logging
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from analysis.tables import flat_config, scores
from grid.results.store import ResultsStore

ABSENT = "(none)"
FEWEST = 4  # configurations: of fewer, a forest says nothing


def importance(
    store: ResultsStore,
    experiment: str,
    metric: str,
    *,
    dataset: str | None = None,
    method: str | None = None,
    split: str = "val",
    selection: str = "last",
    every_form: bool = False,
) -> pd.DataFrame:
    """One row for each knob that varies within a method on a data set, the most important first.

    `fanova`: the share of the variance over configurations that a random forest puts down to the knob alone
    (Hutter et al. 2014); `ped_anova`: how far the knob's values among the best tenth differ from those of all
    (Watanabe et al. 2023). Both sum to 1 over the knobs of a method, or are NaN where all numbers are the
    same. Every value of a knob is a category; a nested component's knob counts where it varies among the
    configurations that have it, and has a category of its own in the others. Numbers are means over seeds.

    Raises LookupError for an experiment that is not in the store, a metric that it has not, or where no
    method has 4 configurations that differ.
    """
    table = scores(
        store, experiment, [metric], dataset=dataset, method=method, split=split,
        selections=[selection], every_form=every_form,
    )  # fmt: skip
    table = table[table["n"] > 0]
    found = [
        pd.DataFrame(_of_knobs(rows)).assign(dataset=str(dataset), method=str(name), configurations=len(rows))
        for (dataset, name), rows in table.groupby(["dataset", "method"])
        if len(rows) >= FEWEST
    ]
    if not found:
        raise LookupError(f"no method of {experiment!r} has {FEWEST} configurations with {metric} on {split}")
    order = ["dataset", "method", "fanova", "parameter"]
    columns = ["dataset", "method", "parameter", "values", "fanova", "ped_anova", "configurations"]
    return pd.concat(found).sort_values(order, ascending=[True, True, False, True], ignore_index=True)[
        columns
    ]


def _of_knobs(rows: pd.DataFrame) -> list[dict[str, object]]:
    knobs = pd.DataFrame([flat_config(config) for config in rows["config"]])
    knobs = knobs.loc[:, knobs.nunique() > 1].fillna(ABSENT)  # nunique leaves out what is absent
    found = _importances(knobs, rows["mean"].to_numpy())
    return [
        {
            "parameter": name,
            "values": json.dumps(sorted(knobs[name].unique())),
            "fanova": found["fanova"].get(name, np.nan),
            "ped_anova": found["ped_anova"].get(name, np.nan),
        }
        for name in knobs.columns
    ]


def _importances(knobs: pd.DataFrame, values: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    if np.ptp(values) == 0:
        return {"fanova": {}, "ped_anova": {}}
    logging.set_verbosity(logging.WARNING)
    study = create_study(direction="maximize")
    space = {name: CategoricalDistribution(sorted(knobs[name].unique())) for name in knobs.columns}
    study.add_trials(
        [
            create_trial(params=dict(row), distributions=space, value=float(value))
            for row, value in zip(knobs.to_dict("records"), values, strict=True)
        ]
    )
    evaluators = {"fanova": FanovaImportanceEvaluator(seed=0), "ped_anova": PedAnovaImportanceEvaluator()}
    return {name: get_param_importances(study, evaluator=one) for name, one in evaluators.items()}
