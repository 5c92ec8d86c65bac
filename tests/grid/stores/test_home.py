"""Places lead to the one that is named, whatever characters it has, or are refused in one line."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from grid.commands.cli import main
from grid.inputs.datasets import locate
from grid.results.store import ResultsStore, ResultsUnreachable
from grid.spec.spec import DatasetEntry, SpecError
from grid.stores import world
from grid.stores.artifacts import ArtifactStore
from grid.stores.home import HomeError, data_folder, home, results_url, sqlite_url, storage_uri, tracking_uri
from grid.stores.storage import Storage, StorageError
from grid.stores.world import open_world, probe_writable

NAMES = [
    "a blank",
    " at both ends ",
    "it's",
    'say "x"',
    "a#b",
    "100% sure",
    "My%20Project%41",
    "what?x=1",
    "žluť 鳥",
    "a&b=c+d",
    "{x}[1]*",
    "a;b,c",
    "a:b@c",
    "$HOME",
    "new\nline",
    "\\n",
    "-x",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_home_of_any_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    monkeypatch.setenv("CONCEPTGRID_HOME", f"{folder}/")
    opened = open_world(None, None)
    with opened.results.writing() as connection:
        connection.execute(text("CREATE TABLE mine (x int)"))
    opened.store.storage.write("deep/er.txt", b"x")
    again = ResultsStore.open(opened.results.url, create=False)
    with again.reading() as connection:
        assert connection.execute(text("SELECT * FROM mine")).all() == []
    for store in (opened.results, again):
        store.close()
    child = Storage(opened.store.storage.child("deep"))
    assert child.read("er.txt") == b"x"
    assert [info.base_name for info in child.files("")] == ["er.txt"]
    assert make_url(tracking_uri()).database == str(folder / "mlflow.db")
    assert os.listdir(tmp_path) == [name]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files - {"results.db-wal", "results.db-shm"} == {"results.db", "artifacts/deep/er.txt"}


@pytest.mark.parametrize("name", NAMES)
def test_a_storage_a_results_file_and_data_of_any_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Storage as a path, relative, with a slash at its end, and as a URI: one place with one URI."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    forms = [str(folder), f"{folder}//", f"./{name}", folder.as_uri(), f"{folder.as_uri()}/"]
    forms += [folder.as_uri().replace("file://", form) for form in ("file:", "file://localhost")]
    assert {Storage(form).uri for form in forms} == {folder.as_uri()}
    probe_writable(ArtifactStore(f"./{name}"))
    ResultsStore.open(sqlite_url(folder / "mine.db")).close()
    assert (folder / "mine.db").is_file()
    (folder / "toybirds").mkdir()
    monkeypatch.setenv("CONCEPTGRID_DATA", f"./{name}/")
    assert data_folder() == folder
    assert locate(DatasetEntry(name="toybirds")).root == folder / "toybirds"
    if "$" not in name:  # a variable, in a spec
        assert locate(DatasetEntry(name="toybirds", root=f"./{name}/toybirds/")).root == folder / "toybirds"
    assert os.listdir(tmp_path) == [name]


def test_a_tilde_is_the_users_folder_everywhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONCEPTGRID_HOME", "~/h")
    monkeypatch.setenv("CONCEPTGRID_STORAGE", "~/s")
    monkeypatch.setenv("CONCEPTGRID_DATA", "~/d")
    assert results_url() == f"sqlite:///{tmp_path}/h/results.db"
    assert Storage(storage_uri()).uri == f"file://{tmp_path}/s"
    assert data_folder() == tmp_path / "d"
    monkeypatch.setenv("CONCEPTGRID_RESULTS_URL", "sqlite:///~/r.db")
    store = ResultsStore.open(results_url())
    assert store.url == f"sqlite:///{tmp_path}/r.db"
    store.close()


def test_analysis_reads_the_file_that_was_opened(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sql` opened `~/r.db` below the folder it was called in, which it made."""
    from typer.testing import CliRunner

    from analysis.cli import app

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ResultsStore.open("sqlite:///~/r.db").close()
    answer = CliRunner().invoke(
        app, ["sql", "SELECT COUNT(*) n FROM trial", "--json", "--results", "sqlite:///~/r.db"]
    )
    assert (answer.exit_code, json.loads(answer.stdout)) == (0, [{"n": 0}])
    assert not (tmp_path / "~").exists()


def test_a_root_in_a_spec_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BIRDS", str(tmp_path))
    for root in ("~/x", "$BIRDS/x", "${BIRDS}/x", "$HOME/x/"):
        assert locate(DatasetEntry(name="toybirds", root=root)).root == tmp_path / "x"
    monkeypatch.delenv("BIRDS")
    with pytest.raises(SpecError, match=r"no folder .*\$BIRDS/x; a variable in it is not set"):
        locate(DatasetEntry(name="toybirds", root="$BIRDS/x"))


@pytest.mark.parametrize("value", ["~nobody-of-this-name/x", os.fsdecode(b"/data/\xff"), "a/b\0c"])
def test_what_is_no_path_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(SpecError, match=r"data set toybirds: root: .* is no path") as refused:
        locate(DatasetEntry(name="toybirds", root=value))
    assert "\n" not in str(refused.value)
    with pytest.raises(HomeError, match=r"storage: .* is no path"):
        Storage(value)
    if "\0" not in value:  # which no variable can hold
        monkeypatch.setenv("CONCEPTGRID_HOME", value)
        with pytest.raises(HomeError, match=r"CONCEPTGRID_HOME: .* is no path"):
            home()


def test_empty_options_are_no_places(home: Path) -> None:
    for refused, given in ((results_url, ""), (storage_uri, " ")):
        with pytest.raises(HomeError, match="is empty: give the place, or leave the option out"):
            refused(given)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://me@127.0.0.1:1/x", "sqlite:///PATH, or postgresql://USER@HOST/NAME"),
        ("mysql://me@127.0.0.1/x", "sqlite:///PATH, or postgresql://USER@HOST/NAME"),
        ("mongodb+srv://me@127.0.0.1/x", "sqlite:///PATH, or postgresql://USER@HOST/NAME"),
        ("sqlite:/x", "sqlite:///PATH"),
        ("results.db", "sqlite:///PATH"),
        ("/tmp/results.db", "sqlite:///PATH"),
        ("postgresql+asyncpg://me@127.0.0.1:1/x", "No module named 'asyncpg'; write postgresql://"),
        ("postgresql+psycopg_async://me@127.0.0.1:1/x", "asynchronous; write postgresql://"),
        ("postgresql+nonsense://me@127.0.0.1:1/x", "write postgresql://"),
        ("sqlite+aiosqlite:////tmp/x.db", "write sqlite://"),
        ("sqlite:////tmp/a?b/x.db", "`?` is %3F"),
        ("sqlite://tmp/x.db", "a file is sqlite:///PATH"),
        ("postgresql://me@127.0.0.1:1/x", "refused"),
    ],
)
def test_a_results_store_that_cannot_be_opened_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultsUnreachable, match="results store at") as refused:
        ResultsStore.open(url)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("foo://bucket/x", "storage foo://…: Protocol not known: foo"),
        ("gcs+x://bucket", "gcs+x"),
        ("hdfs://127.0.0.1:1/x", "storage hdfs://…: "),
        ("ftp://127.0.0.1:1/x", "storage ftp://…: "),
        ("ftp://me:hunter2@127.0.0.1:1/x", "storage ftp://me:***@"),
        ("sftp://127.0.0.1:1/x", "paramiko"),
        ("oss://bucket/x", "ossfs"),
        ("github://x", "storage github://…"),
        ("file:///tmp/a?b", "%3F for `?`"),
        ("file:///tmp/a#b", "%23 for `#`"),
        ("file://~/x", "give the folder's path"),
        ("file://host/x", "give the folder's path"),
        ("file:x", "give the folder's path"),
    ],
)
def test_a_storage_that_cannot_be_opened_says_so_in_one_line(uri: str, says: str) -> None:
    with pytest.raises(StorageError) as refused:
        probe_writable(ArtifactStore(uri))
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_storage_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "PATIENCE", 0.1)
    monkeypatch.setattr(Storage, "write", lambda *_: time.sleep(2))
    with pytest.raises(StorageError, match=r"does not answer within 0\.1 s"):
        probe_writable(ArtifactStore(str(tmp_path)))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("foo://x", "begins with foo://, of which MLflow has no store here"),
        ("s3://bucket/x", "begins with s3://, of which MLflow has no store here"),
        ("postgres://me@h/x", "postgresql://USER@HOST/NAME"),
        ("mysql://me:hunter2@h/x", "install the driver"),
        ("postgresql+nonsense://h/x", "install the driver"),
    ],
)
def test_a_store_that_mlflow_does_not_know_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, uri: str, says: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(HomeError) as refused:
        tracking_uri()
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)
    for known in ("http://h:1", "databricks", "file:///x", "mlruns", "sqlite:///x.db", "postgresql://h/x"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", known)
        assert tracking_uri() == known


@pytest.mark.parametrize(
    "arguments",
    [
        ("--storage", "foo://x"),
        ("--storage", ""),
        ("--results", "results.db"),
        ("--results", ""),
        ("--results", "postgresql+asyncpg://h/x"),
    ],
)
def test_the_command_ends_with_2_and_one_line(
    write_spec: Callable[..., Path],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, str],
) -> None:
    spec = write_spec(name="s", datasets=["toybirds"], methods=[{"method": "standard"}])
    for command in ("run", "plan"):
        monkeypatch.setattr("sys.argv", ["grid", command, str(spec), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("refused: ")
