"""A cluster that goes away in the middle of a run."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from grid.stages.watch import patience
from tests.grid.conftest import Shell
from tests.grid.stages.ray_head import running_head, started_with
from tests.grid.test_run import wait_until


def test_it_is_given_up_before_ray_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s", raising=False)
    assert patience() == 35
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    assert patience() == 575


@pytest.mark.slow
def test_a_run_that_joined_by_a_token_says_in_one_line_that_its_cluster_is_gone(
    birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    spec = write_spec(
        name="gone",
        datasets=[{"name": "toybirds", "root": str(birds)}],
        methods=[{"method": "standard", "recipe": {"epochs": 1_000}}],
    )
    token = {"RAY_AUTH_TOKEN": "a" * 64}
    shell = Shell(tmp_path / "home", tmp_path / "log", RAY_gcs_rpc_server_reconnect_timeout_s="45", **token)
    with running_head(tmp_path / "head.log", job_server=False, RAY_AUTH_MODE="token", **token) as head:
        driver = shell.start("grid", "run", str(spec), "--address", head.address)

        names = lambda: [process.name() for process in started_with(head.folder)]  # noqa: E731
        wait_until(lambda: any(name.startswith("ray::compute") for name in names()), driver, seconds=240)
        for process in started_with(head.folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 1
    (line,) = [line for line in said.splitlines() if "gone" in line and "Ray cluster" in line]
    assert line == said.splitlines()[-1]
    assert "the same command goes on where it stopped" in line
    assert "Traceback" not in said
    assert "Failed to connect to GCS" not in said
    assert [row["status"] for row in shell.sql("SELECT status FROM launch")] == ["interrupted"]
    assert {row["status"] for row in shell.sql("SELECT status FROM trial")} == {"pending"}
