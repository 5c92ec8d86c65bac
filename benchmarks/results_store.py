"""Writes of the results store against MLflow's own: runs with 50 metrics each, both on SQLite."""

import logging
import tempfile
import time
from pathlib import Path

from grid.results.store import ResultsStore, TrialEntry

RUNS, METRICS = 200, 50


def ours(folder: Path) -> float:
    """Seconds for RUNS trials: entered together, then each claimed and finished with METRICS metrics."""
    store = ResultsStore.open(f"sqlite:///{folder / 'results.db'}")
    entries = [
        TrialEntry(
            id=f"{i:020d}",
            method="m",
            method_version=1,
            dataset="d",
            data_fingerprint="f",
            seed=i,
            config={"k": 5},
        )
        for i in range(RUNS)
    ]
    start = time.perf_counter()
    store.enter("e", entries)
    launch = store.begin_launch("e", spec="", plan={}, command="")
    for entry in entries:
        attempt = store.claim(entry.id, launch)
        metrics = [{"name": f"m{k}", "value": k / 7, "split": "test"} for k in range(METRICS)]
        report = {"attempt": attempt, "metrics": metrics, "n_failed": 0, "on_failed": "wrong", "seconds": 1.0}
        store.finish(entry.id, {**report, "provenance": {}})
    return time.perf_counter() - start


def mlflows(folder: Path) -> float:
    """Seconds for RUNS runs: created, METRICS metrics in one batch, terminated; the schema is there."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("e")
    start = time.perf_counter()
    for _ in range(RUNS):
        run = client.create_run(experiment)
        metrics = [Metric(f"m{k}", k / 7, 0, 0) for k in range(METRICS)]
        client.log_batch(run.info.run_id, metrics=metrics)
        client.set_terminated(run.info.run_id)
    return time.perf_counter() - start


def main() -> None:
    """Prints milliseconds per run of both, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        mine, theirs = ours(Path(name)), mlflows(Path(name))
    print(
        f"  results store {1000 * mine / RUNS:.2f} ms per trial,"
        f" MLflow {1000 * theirs / RUNS:.1f} ms per run: {theirs / mine:.0f} x"
    )
