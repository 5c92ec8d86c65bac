"""A mirror to a real MLflow on SQLite."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from grid.results.store import ResultsStore
from grid.tracking.mirror import Mirror

_names = (f"experiment {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow database for all tests of this file: making its schema takes seconds. Beside it lies `blank.db`,
    one that was just made."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    shutil.copyfile(folder / "mlflow.db", folder / "blank.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    yield opened
    opened.close()


@pytest.fixture
def mirror(uri: str, store: ResultsStore, name: str) -> Iterator[Mirror]:
    opened = Mirror(uri, store, name)
    yield opened
    opened.close()
