"""MLflow's own pages of what was mirrored, in a real browser, from a real server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from grid.results.store import ResultsStore
from grid.tracking.mirror import Mirror, main_metrics_page
from tests.browser.page import BROWSERS
from tests.grid.tracking.mirrored_runs import three_trials
from tests.grid.tracking.test_mirror import blank, runs

pytestmark = pytest.mark.slow
WAIT = 120  # seconds
RUN = "bag_size=6 rho_max=0.56 seed 0 seg_mil_cbm toybirds size-6"
Opened = Callable[[str], str]


@pytest.fixture
def server(uri: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server's address and its database, with artifacts of its own for whoever uploads to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = blank(uri, tmp_path / "mlflow.db")
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "uploaded")]
    log = tmp_path / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *stores], stdout=out, stderr=out, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(WAIT * 4):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/health", timeout=WAIT)
                break
            except urllib.error.URLError:
                time.sleep(0.25)
        yield address, database
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """What a browser without a history shows at an address, as HTML."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    program: str = browser

    def html(address: str) -> str:
        profile = tmp_path / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        quiet = ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
        size = ("--window-size=2600,1600", "--virtual-time-budget=60000", "--dump-dom")
        done = subprocess.run([program, *quiet, *size, address], capture_output=True, text=True, timeout=WAIT)
        return done.stdout

    return html


def mirror(uri: str, store: ResultsStore, name: str) -> None:
    own = Mirror(uri, store, name)
    own.submit_heal()
    own.close()


def test_runs_a_run_and_their_comparison_show_the_main_metrics(
    server: tuple[str, str], opened: Opened, store: ResultsStore, name: str, tmp_path: Path
) -> None:
    address, database = server
    three_trials(store, name, tmp_path / "trials")
    mirror(database, store, name)
    ids = {run.info.run_name: run.info.run_id for run in runs(database, name)}
    page = main_metrics_page(store, name, database)
    experiment = f"{address}/#/experiments/{runs(database, name)[0].info.experiment_id}"

    table = opened(f"{address}/{page}")
    for text in (
        *ids,
        "test/last/worst_group_accuracy",
        "test/last/average_accuracy",
        "rho_max",
        "0.625",
        "0.875",
    ):
        assert text in table
    assert "toybirds (f)" in table
    assert "a_detail" not in table
    best, second, worst = (table.index(f">{value}<") for value in ("0.625", "0.5", "0.25"))
    assert best < second < worst

    charts = opened(f"{address}/{page}&compareRunsMode=CHART")
    assert "Main metrics" in charts
    assert charts.index("Parallel Coordinates") < charts.index("val/last"), "the section of other metrics"

    plain = opened(f"{experiment}/runs")
    assert f'href="{page}"' in plain.replace("&amp;", "&"), "the note links to the view"

    run = opened(f"{experiment}/runs/{ids[RUN]}")
    for text in (RUN, "toybirds (f)"):
        assert text in run
    assert run.index("test/last/worst_group_accuracy") < run.index("test/last/a_detail_0")

    picture = opened(f"{experiment}/runs/{ids[RUN]}/artifacts/pictures/1525.jpg")
    for text in ("pictures/1525.jpg", 'src="blob:'):
        assert text in picture

    compared = quote(json.dumps(list(ids.values())))
    of = quote(json.dumps([experiment.rpartition("/")[2]]))
    comparison = opened(f"{address}/#/compare-runs?runs={compared}&experiments={of}")
    plot = comparison[
        comparison.index("Comparing 3 Runs from 1 Experiment") : comparison.index("Run details")
    ]
    for text in ("Parallel Coordinates Plot", "bag_size", "rho_max", "test/last/worst_group_accuracy"):
        assert text in plot


def test_a_server_with_artifacts_of_its_own_gets_the_pictures(
    server: tuple[str, str], store: ResultsStore, name: str, tmp_path: Path
) -> None:
    address, database = server
    pictures = three_trials(store, name, tmp_path / "trials")
    mirror(address, store, name)
    (run,) = (run for run in runs(database, name) if run.info.run_name == RUN)
    url = f"{address}/get-artifact?path=pictures/1525.jpg&run_uuid={run.info.run_id}"
    with urllib.request.urlopen(url, timeout=WAIT) as reply:
        assert reply.read() == pictures[1].read_bytes()
    assert [picture.stat().st_nlink for picture in pictures] == [1, 1, 1], "copies"
    assert main_metrics_page(store, name, address) is not None
