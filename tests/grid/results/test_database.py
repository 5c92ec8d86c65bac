"""Opening: fresh, missing, unreachable, by several processes at once; passwords stay hidden."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from grid.results.database import HERE, VIEWS, view_name
from grid.results.schema import Base
from grid.results.store import ResultsStore, ResultsUnreachable

OPEN_AND_COUNT = """
import sys
from sqlalchemy import text
from grid.results.store import ResultsStore
with ResultsStore.open(sys.argv[1]).reading() as connection:
    print(connection.scalar(text("SELECT COUNT(*) FROM leaderboard")))
"""


def test_four_processes_open_a_fresh_database_at_once(url: str) -> None:
    command = [sys.executable, "-c", OPEN_AND_COUNT, url]
    openers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outcomes = [opener.communicate(timeout=60) for opener in openers]
    assert [out.strip() for out, _ in outcomes] == ["0"] * 4, outcomes


def test_the_migrations_make_the_models_and_the_views(store: ResultsStore) -> None:
    with store.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        views = set(inspect(connection).get_view_names())
    assert [d for d in differences if "alembic_version" not in str(d)] == []
    assert views == {view_name(path) for path in VIEWS} >= {"ablation", "leaderboard"}


def test_views_are_made_anew_when_their_files_changed(store: ResultsStore, url: str) -> None:
    with store.writing() as connection:
        connection.execute(text("DROP VIEW reported_vs_measured"))
        connection.execute(text("UPDATE view_state SET digest = 'of other files'"))
    again = ResultsStore.open(url)
    with again.reading() as connection:
        assert connection.execute(text("SELECT * FROM reported_vs_measured")).all() == []
    again.close()


def test_opening_an_up_to_date_store_does_without_alembic(store: ResultsStore, url: str) -> None:
    script = (
        "import sys; from grid.results.store import ResultsStore; "
        "ResultsStore.open(sys.argv[1]); print('alembic' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


def test_a_missing_store_is_not_made_when_it_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ResultsUnreachable, match=r"no results store at .*run an experiment first"):
        ResultsStore.open(f"sqlite:///{tmp_path}/none/results.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_no_store_when_it_must_exist(url: str) -> None:
    with pytest.raises(ResultsUnreachable, match="run an experiment first"):
        ResultsStore.open(url, create=False)


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ResultsStore.open("sqlite:///here.db").url == f"sqlite:///{tmp_path}/here.db"


def make_store_of(url: str, revision: str, *statements: tuple[str, dict[str, object]]) -> None:
    """A store as the code of an earlier revision of the schema made it, and rows in it."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(HERE / "migrations"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, revision)
        for statement, values in statements:
            connection.execute(text(statement), values)
    engine.dispose()


def test_records_that_a_hidden_flag_had_made_no_json_are_healed(url: str) -> None:
    params = {"class_token": True, "rho": 0.5}
    whole = {"key": "b", "params": params, "note": 'says ": ***, so'}
    add = "INSERT INTO stage (key, kind, created_at, params, manifest) VALUES (:k, 'column', '', :p, :m)"
    bare = '{"found": "3 boxes", "key": "a", "params": {"class_token": ***, "rho": 0.5}}'
    make_store_of(
        url,
        "0005",
        (add, {"k": "a", "p": json.dumps(params), "m": bare}),
        (add, {"k": "b", "p": None, "m": json.dumps(whole)}),
        ("CREATE VIEW planned_seeds AS SELECT 1 AS one", {}),
    )
    again = ResultsStore.open(url)
    with again.reading() as connection:
        found = connection.execute(text("SELECT manifest FROM stage ORDER BY key")).scalars()
        assert [json.loads(m) for m in found] == [{"found": "3 boxes", "key": "a", "params": params}, whole]
        assert set(inspect(connection).get_view_names()) == {view_name(path) for path in VIEWS}
        assert not inspect(connection).has_table("prediction")
    again.close()


def test_the_trials_of_a_store_without_stopped_ones_and_what_points_to_them_stay(url: str) -> None:
    trial = (
        "INSERT INTO trial (id, method, method_version, dataset, data_fingerprint, seed, config, config_id, status, "
        "attempt, warning, to_rerun) VALUES (:id, 'm', 1, 'd', 'f', 0, '{}', 'c', :status, 3, 'w', :rerun)"
    )
    metric = (
        "INSERT INTO metric (trial_id, name, split, group_name, selection, value, status) "
        "VALUES (:id, 'a', 'val', 'all', 'last', 0.1, 'ok')"
    )
    make_store_of(
        url,
        "0009",
        *((trial, {"id": one, "status": one, "rerun": one == "done"}) for one in ("done", "failed")),
        *((metric, {"id": one}) for one in ("done", "failed", "done")),
    )
    again = ResultsStore.open(url)
    found = {one: again.trial(one) for one in ("done", "failed")}
    assert [len(trial["metrics"]) for trial in found.values()] == [2, 1]
    assert [(t["status"], t["attempt"], t["warning"], t["to_rerun"]) for t in found.values()] == [
        ("done", 3, "w", True),
        ("failed", 3, "w", False),
    ]
    with again.writing() as connection:
        connection.execute(text("UPDATE trial SET status = 'stopped' WHERE id = 'failed'"))
    for wrong in (
        "UPDATE trial SET status = 'halted'",
        "DELETE FROM trial WHERE id = 'done'",  # its metrics still need it
    ):
        with pytest.raises(IntegrityError), again.writing() as connection:
            connection.execute(text(wrong))
    with again.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert [d for d in differences if "alembic_version" not in str(d)] == []
    again.close()


def test_a_store_of_newer_code_is_refused(store: ResultsStore, url: str) -> None:
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ResultsUnreachable, match="schema 9999 is newer"):
        ResultsStore.open(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/x?connect_timeout=2",
        "postgresql://me@127.0.0.1:1/x?password=s3cret&connect_timeout=2",
        "mysql://me:s3cret@127.0.0.1/x",
        "postgresql://me:s3cret@127.0.0.1:port/x",
        "postgresql://me:at@s3cret@127.0.0.1:1/x?connect_timeout=2",
        "postgresql://me:two words s3cret@127.0.0.1:1/x?connect_timeout=2",
        "sqlite:////proc/none/results.db",
        "sqlite://",
        "nonsense",
    ],
)
def test_unreachable_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ResultsUnreachable) as caught:
        ResultsStore.open(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
