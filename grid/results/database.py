"""Connecting to a results store, and bringing its schema and views up to date."""

import hashlib
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from grid.free_text import presentable, redacted

HERE = Path(__file__).parent
VIEWS = sorted((HERE / "views").glob("*.sql"))
HEAD = max(path.stem.partition("_")[0] for path in (HERE / "migrations/versions").glob("*.py"))
LOCK_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10  # per address of a server; libpq's own is the system's, of minutes
FORMS = "must be a URL: sqlite:///PATH, or postgresql://USER@HOST/NAME"
ADVISORY_LOCK = 0x63_67_72_69_64  # "cgrid": one number that all launches agree on


class ResultsUnreachable(Exception):  # noqa: N818 (reads as what happened)
    """The results store can't be opened; the message is one line, without passwords."""


def connect(url: str, create: bool) -> Engine:
    """An engine on the store at `url`, its schema and views up to date.

    Safe when several processes open a fresh database at once. Raises ResultsUnreachable.
    """
    try:
        address = _absolute(_parsed(url))
        _prepare_file(address, create)
        engine = _engine(address)
        if not _up_to_date(engine, create):
            _bring_up_to_date(engine)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        reason = presentable(str(getattr(error, "orig", None) or error)).strip().replace("\n", " ")
        raise ResultsUnreachable(f"results store at {redacted(url)}: {reason}") from error
    return engine


def _parsed(url: str) -> URL:
    """ArgumentError for what is no URL, or one of a database or by a driver that is not here."""
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ArgumentError(FORMS) from error
    backend = address.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ArgumentError(FORMS)
    if backend == "sqlite" and (address.host or "?" in url):
        raise ArgumentError("a file is sqlite:///PATH, without options; in a path, `?` is %3F and `%` is %25")
    try:
        dialect = address.get_dialect()
        dialect.import_dbapi()
    except (ArgumentError, ImportError) as error:
        raise ArgumentError(f"{error}; write {backend}://, whose driver is among the requirements") from error
    if dialect.is_async:
        raise ArgumentError(f"{address.drivername} is asynchronous; write {backend}://")
    return address


def _absolute(address: URL) -> URL:
    if "@" in (address.host or ""):
        raise ArgumentError("more than one @: write %40 for an @ in the password")
    if address.get_backend_name() == "postgresql":
        return address
    if not address.database or address.database == ":memory:":
        raise ArgumentError("must name a file")
    return address.set(database=str(Path(address.database).expanduser().absolute()))


def _prepare_file(address: URL, create: bool) -> None:
    if address.get_backend_name() != "sqlite" or Path(str(address.database)).exists():
        return
    if not create:
        raise ResultsUnreachable(f"no results store at {redacted(str(address))}; run an experiment first")
    Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)


def _engine(address: URL) -> Engine:
    if address.get_backend_name() == "postgresql":
        patience = {} if "connect_timeout" in address.query else {"connect_timeout": CONNECT_TIMEOUT_S}
        return create_engine(address, pool_pre_ping=True, connect_args=patience)
    engine = create_engine(address, connect_args={"timeout": LOCK_TIMEOUT_S})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the transactions are ours, see _begin_sqlite
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: Any) -> None:
    """SQLite's own lock timeout does not cover the switch of a file that others open just now."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except connection.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock first: a read that turns into a write would fail, not wait."""
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _up_to_date(engine: Engine, create: bool) -> bool:
    with engine.execution_options(reads_only=True).connect() as connection:
        version = _version(connection)
        if version is None and not create:
            raise ResultsUnreachable(
                f"no results store at {redacted(str(engine.url))}; run an experiment first"
            )
        if version is not None and version > HEAD:
            raise ResultsUnreachable(
                f"results store at {redacted(str(engine.url))}: schema {version} is newer than "
                f"{HEAD}, which this version of the code knows"
            )
        return version == HEAD and _made_views(connection) == _views_digest()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _made_views(connection: Connection) -> str | None:
    made: str | None = connection.scalar(text("SELECT digest FROM view_state"))
    return made


def _views_digest() -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in VIEWS)).hexdigest()[:20]


def _bring_up_to_date(engine: Engine) -> None:
    """One transaction under one lock; whoever comes second finds nothing left to do."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        if _version(connection) == HEAD and _made_views(connection) == _views_digest():
            return
        for path in reversed(VIEWS):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view_name(path)}")
        if _version(connection) != HEAD:
            _upgrade(connection)
        for path in VIEWS:
            connection.exec_driver_sql(path.read_text())
        connection.execute(text("DELETE FROM view_state"))
        connection.execute(text("INSERT INTO view_state VALUES (:d)"), {"d": _views_digest()})


def view_name(path: Path) -> str:
    """`views/2_ablation.sql` makes the view `ablation`; the digit is its floor."""
    return path.stem.partition("_")[2]


def _upgrade(connection: Connection) -> None:
    from alembic import command  # slow to import, needed on new stores only
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(HERE / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
