"""One read-only query against the results store."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from grid.free_text import redacted

Row = dict[str, Any]
READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
FIRST_WORDS = ("select", "with", "values", "explain")


class RefusedError(Exception):
    """The statement writes, is more than one, or is not SQL; one line says why."""


def query(url: str, statement: str) -> list[Row]:
    """The rows of one statement that reads. Raises RefusedError; the store is never changed."""
    if make_url(url).get_backend_name() == "sqlite":
        return _query_sqlite(str(make_url(url).database), statement)
    return _query_postgres(url, statement)


def _query_sqlite(file: str, statement: str) -> list[Row]:
    connection = sqlite3.connect(file, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.set_authorizer(_authorize)
        cursor = connection.execute(statement)
        if cursor.description is None:
            raise RefusedError("not a query: it gives no rows")
        names = distinct([column[0] for column in cursor.description])
        return [dict(zip(names, row, strict=True)) for row in cursor]
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise RefusedError(_reason(error)) from error
    finally:
        connection.close()


def _authorize(action: int, *_names: str | None) -> int:
    return sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY


def _query_postgres(url: str, statement: str) -> list[Row]:
    """The extended protocol (`prepare`) takes one statement only; the transaction, and every other
    one of this session, is read-only."""
    if statement.strip().lower().partition(" ")[0].partition("\n")[0] not in FIRST_WORDS:
        raise RefusedError(f"not a query: it starts with none of {', '.join(FIRST_WORDS)}")
    engine = create_engine(url, connect_args={"options": "-c default_transaction_read_only=on"})
    try:
        with engine.connect() as connection:
            cursor = connection.connection.cursor()
            cursor.execute(statement, prepare=True)  # type: ignore[call-arg]
            names = distinct([column[0] for column in cursor.description or ()])
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise RefusedError(_reason(error)) from error
    finally:
        engine.dispose()


def distinct(names: Sequence[str]) -> list[str]:
    """The names of a query's columns, each once: a second `value` is `value_2`, so that no column is lost."""
    found: list[str] = []
    for name in names:
        count, said = 1, name
        while said in found:
            count += 1
            said = f"{name}_{count}"
        found.append(said)
    return found


def _reason(error: Exception) -> str:
    text = redacted(str(error)).strip().partition("\n")[0]
    return "only statements that read are allowed" if text == "not authorized" else text
