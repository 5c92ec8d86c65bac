"""What MLflow's tables of runs show."""

import pytest
from mlflow import MlflowClient
from sqlalchemy import text

from grid.results.store import ResultsStore, TrialEntry
from grid.tracking.mirror import Mirror
from tests.grid.tracking.test_mirror import runs, start

pytestmark = pytest.mark.slow


def test_a_run_says_what_varies_its_data_and_its_source(
    uri: str, store: ResultsStore, mirror: Mirror, name: str
) -> None:
    for number, k in enumerate((4, 6)):
        entry = TrialEntry(
            id=f"knob-{k}", method="seg_mil_cbm", method_version=1, dataset="toybirds",
            data_fingerprint="f" * 20, seed=number, config={"bag_size": k, "rho": 0.5},
        )  # fmt: skip
        store.enter(name, [entry])
    start(store, name, 7)
    for trial_id in ("knob-4", "knob-6", "trial-7"):
        store.claim(trial_id, None)
        with store.writing() as connection:
            connection.execute(text("UPDATE trial SET git_commit = 'abc'"))
        for _ in range(2):  # again, and nothing doubles
            mirror.mirror_trial(trial_id)
    found = {run.data.tags["trial"]: run for run in runs(uri, name)}
    assert {id_: run.info.run_name for id_, run in found.items()} == {
        "knob-4": "bag_size=4 seed 0 seg_mil_cbm toybirds knob-4",
        "knob-6": "bag_size=6 seed 1 seg_mil_cbm toybirds knob-6",
        "trial-7": "salf_cbm seed 7 toybirds trial-7",
    }
    run = found["knob-4"]
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("toybirds", "f" * 20)
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    assert run.data.tags["mlflow.source.name"] == "python -m grid"
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(name)
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
