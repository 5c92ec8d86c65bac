"""Where MLflow keeps an experiment."""

from pathlib import Path

import pytest

from grid.results.store import ResultsStore
from grid.stores.home import sqlite_url
from grid.tracking.mirror import Mirror

pytestmark = pytest.mark.slow


def test_a_database_in_a_folder_of_any_name_makes_no_other_folder(
    tmp_path: Path,
) -> None:
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    folder = tmp_path / 'it\'s 100%20 "mine" #1?'
    opened = Mirror(sqlite_url(folder / "mlflow.db"), store, "odd")
    run = opened._client.create_run(opened._connect().experiment_id)
    opened._client.log_text(run.info.run_id, "text", "a.txt")
    opened.close()
    store.close()
    assert {path.name for path in tmp_path.iterdir()} - {"results.db-wal", "results.db-shm"} == {
        folder.name, "results.db",
    }  # fmt: skip
    assert (folder / "mlflow.db").is_file()
    (written,) = (folder / "mlartifacts").rglob("a.txt")
    assert written.read_text() == "text"
