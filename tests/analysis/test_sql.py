"""Queries read; everything else is refused and changes nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.cli import app
from analysis.sql import RefusedError, query
from grid.results.store import ResultsStore

EVIL = [
    "DELETE FROM trial",
    "UPDATE trial SET seed = 1",
    "INSERT INTO experiment VALUES ('x', 'y')",
    "DROP VIEW ablation",
    "DROP TABLE metric",
    "CREATE TABLE x (y INTEGER)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "ALTER TABLE trial ADD COLUMN x INTEGER",
    "SELECT 1; DELETE FROM metric",
    "SELECT 1; COMMIT; DELETE FROM metric",
    "WITH x AS (SELECT 1) DELETE FROM metric",
    "EXPLAIN ANALYZE DELETE FROM metric",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA query_only=OFF",
    "pragma user_version = 3",
    "ATTACH 'other.db' AS other",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('x')",
    "COPY trial TO '/tmp/x'",
    "SET default_transaction_read_only = off",
    "",
    "nonsense",
    "SELECT no_such_column FROM trial",
    "/* SELECT */ DELETE FROM metric",
]


@pytest.mark.parametrize("statement", EVIL)
def test_what_does_not_only_read_is_refused(
    url: str,
    store: ResultsStore,
    statement: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError) as caught:
        query(url, statement)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert store.experiment_summary("small")["trials"] == {"done": 9, "failed": 1}
    assert query(url, "SELECT COUNT(*) AS n FROM metric") == [{"n": 54}]


def test_only_postgres_can_delete_in_a_with(url: str) -> None:
    with pytest.raises(RefusedError):
        query(url, "WITH gone AS (DELETE FROM metric RETURNING *) SELECT * FROM gone")
    assert query(url, "SELECT COUNT(*) AS n FROM metric") == [{"n": 54}]


def test_queries_give_rows(url: str) -> None:
    rows = query(
        url,
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
        "SELECT i, 'a%b' LIKE 'a%' AS yes FROM n ORDER BY i",
    )
    assert [row["i"] for row in rows] == [1, 2, 3]
    assert query(url, "  select max(seed) AS s\nfrom trial where method = 'salf_cbm'") == [{"s": 2}]
    assert query(url, "SELECT id FROM trial WHERE id = 'none'") == []


def test_columns_of_one_name_all_survive(url: str) -> None:
    assert query(url, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a") == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]
    (row,) = query(
        url, "SELECT a.id, b.id FROM trial a JOIN trial b ON b.seed = 9 WHERE a.id = 'standard-1-0'"
    )
    assert row == {"id": "standard-1-0", "id_2": "unlucky"}


@pytest.mark.parametrize("text", ["[red]bold[/red]", "[/]", "[link=x]", ":bird:", "a\\[b]", "ä → 鳥"])
def test_text_prints_as_it_is(url: str, text: str) -> None:
    result = CliRunner().invoke(app, ["sql", f"SELECT '{text}' AS \"{text}\"", "--results", url])
    header, row = result.stdout.splitlines()
    assert [header.strip(), row.strip()] == [text, text]
