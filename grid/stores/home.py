"""Where a world lives: CONCEPTGRID_HOME (default ./runs), and each part of it on its own."""

import os
from pathlib import Path

HOME = "CONCEPTGRID_HOME"
RESULTS_URL = "CONCEPTGRID_RESULTS_URL"
STORAGE = "CONCEPTGRID_STORAGE"
DATA = "CONCEPTGRID_DATA"
TRACKING_URI = "MLFLOW_TRACKING_URI"
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in the driver of a submitted job

SQLITE = "sqlite:///"


class HomeError(ValueError):
    """A place would be lost or cannot be used; one line says what to set."""


def home() -> Path:
    """The folder that holds `results.db`, `mlflow.db` and `artifacts/`."""
    return Path(os.environ.get(HOME) or "runs").expanduser().resolve()


def results_url(given: str | None = None) -> str:
    """The results store's URL: as given, else CONCEPTGRID_RESULTS_URL, else SQLite in the home."""
    return given or os.environ.get(RESULTS_URL) or f"{SQLITE}{home() / 'results.db'}"


def storage_uri(given: str | None = None) -> str:
    """The artifact store's URI: as given, else CONCEPTGRID_STORAGE, else `artifacts` in the home."""
    return given or os.environ.get(STORAGE) or (home() / "artifacts").as_uri()


def tracking_uri() -> str:
    """MLflow's: MLFLOW_TRACKING_URI, else SQLite in the home."""
    return os.environ.get(TRACKING_URI) or f"{SQLITE}{home() / 'mlflow.db'}"


def data_folder() -> Path | None:
    """The folder with a data set per name, or None."""
    value = os.environ.get(DATA)
    return Path(value).expanduser().resolve() if value else None


def in_ray_job() -> bool:
    """Whether this is the driver of a submitted Ray job: its working directory is a throw-away copy."""
    return RAY_JOB in os.environ


def refuse_throw_away_places(results: str, storage: str) -> None:
    """HomeError if, in a Ray job, results or artifacts would lie in the job's own working directory."""
    if not in_ray_job():
        return
    advice = f"the job's folder is a throw-away copy: set {HOME} to an absolute path"
    given = os.environ.get(HOME, "")
    if given and not Path(given).expanduser().is_absolute():
        raise HomeError(f"{HOME}={given} is relative in a Ray job; {advice}")
    if is_relative_sqlite(results):
        raise HomeError(f"results URL {results} is relative in a Ray job; {advice}")
    if "://" not in storage and not Path(storage).is_absolute():
        raise HomeError(f"storage {storage} is relative in a Ray job; {advice}")
    in_home = (f"{SQLITE}{home()}/", home().as_uri())
    if not given and (results.startswith(in_home) or storage.startswith(in_home)):
        raise HomeError(f"no {HOME} in a Ray job; {advice}")


def is_relative_sqlite(url: str) -> bool:
    """Whether the URL is a SQLite file by a relative path."""
    return url.startswith(SQLITE) and not url.removeprefix(SQLITE).startswith(("/", ":memory:"))
