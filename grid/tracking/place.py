"""Where MLflow keeps an experiment: opened, and known again without MLflow."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import make_url

from grid.free_text import redacted
from grid.tracking.keys import NAME_LENGTH, shortened

log = logging.getLogger(__name__)

KIND = "mlflow.experimentKind"
PRESENT = "SELECT experiment_id, creation_time FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"


@dataclass(frozen=True)
class Place:
    """An experiment of MLflow: its id, and `identity`, text that no other experiment has, also not one of the
    same name in a store that was lost and made anew."""

    client: Any
    experiment_id: str
    identity: str


class BrokenPlace(RuntimeError):  # noqa: N818  reads as the message does
    """The SQLite file of MLflow is no database any more; the message says what mends it."""


def open_place(tracking_uri: str, experiment: str) -> Place:
    """The experiment, which is made if need be, and so is a database; brought back if it was deleted. Raises
    BrokenPlace, and what MLflow raises."""
    name = shortened(experiment, NAME_LENGTH)
    with _alone(tracking_uri):
        file = sqlite_file(tracking_uri)
        try:
            _present(file, name)
        except sqlite3.OperationalError:
            pass  # it is to be made
        except sqlite3.DatabaseError as error:
            raise BrokenPlace(f"{file}: {error}; remove it, and the next run fills a new one") from error
        return _open(tracking_uri, name)


def known_identity(tracking_uri: str, experiment: str) -> str | None:
    """The identity of an experiment in an SQLite file, found in milliseconds; empty if it has none, or cannot
    be read. None where only MLflow can tell."""
    file = sqlite_file(tracking_uri)
    if file is None:
        return None
    try:
        found = _present(file, shortened(experiment, NAME_LENGTH))
    except sqlite3.Error:
        return ""
    return _identity(tracking_uri, *found) if found else ""


def _present(file: Path | None, name: str) -> tuple[int, int] | None:
    """Id and time of making of the experiment, if it is there and not deleted. Raises
    sqlite3.OperationalError where there is no file or no table."""
    if file is None:
        return None
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        found: tuple[int, int] | None = connection.execute(PRESENT, [name]).fetchone()
    return found


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file behind an SQLite URI; None of others."""
    if not tracking_uri.startswith("sqlite:"):
        return None
    return Path(make_url(tracking_uri).database or "mlflow.db").absolute()


def id_in(identity: str | None, tracking_uri: str) -> str | None:
    """The id of an experiment by its identity; None if that is in another store."""
    where, _, rest = (identity or "").rpartition(" experiment ")
    return rest.partition(" of ")[0] if where == _where(tracking_uri) else None


def _identity(tracking_uri: str, experiment_id: Any, created_at: Any) -> str:
    return f"{_where(tracking_uri)} experiment {experiment_id} of {created_at}"


def _where(tracking_uri: str) -> str:
    return str(sqlite_file(tracking_uri) or redacted(tracking_uri))


def _open(tracking_uri: str, experiment: str) -> Place:
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient  # seconds to import: only where it is needed

    with _no_stray_folder(tracking_uri):
        client = MlflowClient(tracking_uri=tracking_uri)
        found = client.get_experiment_by_name(experiment)  # makes the schema of a new database
    if found is None:
        client.create_experiment(experiment, artifact_location=_artifact_location(tracking_uri))
        found = client.get_experiment_by_name(experiment)
        assert found is not None
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
        log.warning("MLflow: experiment %s was deleted there: brought back, as it is in SQL", experiment)
    if KIND not in found.tags:  # else the page guesses, and opens the view of language models' traces
        client.set_experiment_tag(found.experiment_id, KIND, "custom_model_development")
    identity = _identity(tracking_uri, found.experiment_id, found.creation_time)
    return Place(client, str(found.experiment_id), identity)


@contextmanager
def _no_stray_folder(tracking_uri: str) -> Iterator[None]:
    """MLflow makes the folder of an SQLite URI as it is written, `%25` and all, beside the one it means."""
    written = Path(tracking_uri.removeprefix("sqlite:///")).parent
    is_stray = tracking_uri.startswith("sqlite:") and not written.exists()
    yield
    if is_stray and written.is_dir():
        os.removedirs(written)  # as far up as they are empty


def _artifact_location(tracking_uri: str) -> str | None:
    """`mlartifacts` beside an SQLite file; a server knows its own place."""
    file = sqlite_file(tracking_uri)
    return None if file is None else (file.parent / "mlartifacts").as_uri()


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Two processes that make the schema of one new SQLite file ruin it: one after the other."""
    file = sqlite_file(tracking_uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
