"""Where a world lives: CONCEPTGRID_HOME (default ./runs), and each part of it on its own."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote

HOME = "CONCEPTGRID_HOME"
RESULTS_URL = "CONCEPTGRID_RESULTS_URL"
STORAGE = "CONCEPTGRID_STORAGE"
DATA = "CONCEPTGRID_DATA"
TRACKING_URI = "MLFLOW_TRACKING_URI"
RAY_ADDRESS = "RAY_ADDRESS"  # Ray's own variable: the cluster to join
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in the driver of a submitted job

SQLITE = "sqlite:///"
MLFLOW_FILES = ("", "file")  # schemes of MLflow's own stores
MLFLOW_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
MLFLOW_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


class HomeError(ValueError):
    """A place would be lost or cannot be used; one line says what to set."""


def home() -> Path:
    """The folder that holds `results.db`, `mlflow.db` and `artifacts/`."""
    return place(os.environ.get(HOME) or "runs", HOME)


def place(text: str, named: str) -> Path:
    """The absolute path that `text` means: a leading `~` is the user's folder, and every other character
    stands for itself. `named` says in the error whose value it is. HomeError if there is no such path."""
    try:
        text.encode()  # a name that is no UTF-8 goes into no table, log or database
        expanded = os.path.expanduser(text)  # Path's own takes `./~` for `~`
        if expanded.startswith("~"):
            raise ValueError("no such user")
        return Path(expanded).resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise HomeError(f"{named}: {text!r} is no path: {error}") from error


def results_url(given: str | None = None) -> str:
    """The results store's URL: as given, else CONCEPTGRID_RESULTS_URL, else SQLite in the home."""
    return _option("--results", given) or os.environ.get(RESULTS_URL) or sqlite_url(home() / "results.db")


def storage_uri(given: str | None = None) -> str:
    """The artifact store's URI: as given, else CONCEPTGRID_STORAGE, else `artifacts` in the home."""
    return _option("--storage", given) or os.environ.get(STORAGE) or (home() / "artifacts").as_uri()


def _option(name: str, given: str | None) -> str | None:
    """HomeError for an empty one, as of a shell's variable that is not set: what would be written elsewhere
    is refused."""
    if given is not None and not given.strip():
        raise HomeError(f"{name} is empty: give the place, or leave the option out")
    return given


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite file, as SQLAlchemy reads it: `?` would begin its options, and `%` with two hex
    digits stands for another character. Nothing else is escaped, since MLflow does not undo it everywhere."""
    return SQLITE + re.sub(r"\?|%(?=[0-9a-fA-F]{2})", lambda found: quote(found[0]), str(file))


def tracking_uri() -> str:
    """MLflow's: MLFLOW_TRACKING_URI, else SQLite in the home. HomeError for one that MLflow cannot open."""
    given = os.environ.get(TRACKING_URI)
    if not given:
        return sqlite_url(home() / "mlflow.db")
    scheme = given.partition(":")[0] if "://" in given else ""
    kind = scheme.partition("+")[0]
    known = (*MLFLOW_FILES, *MLFLOW_SERVERS, *MLFLOW_DATABASES)
    if kind in MLFLOW_DATABASES:
        _refuse_without_driver(given, scheme)
    elif kind not in known and scheme not in entry_points(group="mlflow.tracking_store").names:
        raise HomeError(
            f"{TRACKING_URI} begins with {scheme}://, of which MLflow has no store here: give http:// or "
            f"https:// of a server, {SQLITE}PATH, or postgresql://USER@HOST/NAME"
        )
    return given


def _refuse_without_driver(url: str, scheme: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url).get_dialect().import_dbapi()
    except (ArgumentError, ImportError, ValueError) as error:
        raise HomeError(f"{TRACKING_URI} begins with {scheme}://: {error}; install the driver") from error


def data_folder() -> Path | None:
    """The folder with a data set per name, or None."""
    value = os.environ.get(DATA)
    return place(value, DATA) if value else None


def in_ray_job() -> bool:
    """Whether this is the driver of a submitted Ray job: its working directory is a throw-away copy."""
    return RAY_JOB in os.environ


def joins_cluster(address: str | None) -> bool:
    """Whether a run with this `--address` joins a cluster, whose machines may be others than this one."""
    return bool(address or os.environ.get(RAY_ADDRESS)) or in_ray_job()


def refuse_throw_away_places(results: str, storage: str) -> None:
    """HomeError if, in a Ray job, results or artifacts would lie in the job's own working directory."""
    if not in_ray_job():
        return
    advice = f"the job's folder is a throw-away copy: set {HOME} to an absolute path"
    given = os.environ.get(HOME, "")
    if given and not _is_absolute(given):
        raise HomeError(f"{HOME}={given} is relative in a Ray job; {advice}")
    if is_relative_sqlite(results):
        raise HomeError(f"results URL {results} is relative in a Ray job; {advice}")
    if "://" not in storage and not _is_absolute(storage):
        raise HomeError(f"storage {storage} is relative in a Ray job; {advice}")
    in_home = (f"{sqlite_url(home())}/", home().as_uri())
    if not given and (results.startswith(in_home) or storage.startswith(in_home)):
        raise HomeError(f"no {HOME} in a Ray job; {advice}")


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", "~"))


def is_relative_sqlite(url: str) -> bool:
    """Whether the URL is a SQLite file by a relative path."""
    return url.startswith(SQLITE) and not url.removeprefix(SQLITE).startswith(("/", "~", ":memory:"))
