"""A small grid of fine-tuning under ASHA on real Ray: killed in the middle, resumed, and gone on with."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.grid.conftest import Shell

pytestmark = pytest.mark.slow

METHOD = {
    "method": "fine_tuning",
    "backbone": {"name": "small_vit", "checkpoint": "datasets/toybirds/vit/model.safetensors"},
    "recipe": {"epochs": 1},
    "clip": {"checkpoint": "datasets/toybirds/clip"},
    "masks": "object",
    "classification": "ground_truth",
    "images_per_class": 4,
    "class_share": 1,
    "held_out_per_class": 4,
    "epochs": 9,
    "learning_rate": [1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6],
    "explained": {"split": "test", "n_images": 4},
}
SCHEDULER = {"kind": "asha", "grace": 2, "factor": 2, "metric": "held_out_loss", "mode": "min"}


def trials(results: Path) -> dict[str, dict[str, Any]]:
    with sqlite3.connect(results) as connection:
        connection.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in connection.execute("SELECT * FROM trial")}


def numbers(results: Path) -> set[tuple[Any, ...]]:
    with sqlite3.connect(results) as connection:
        return set(
            connection.execute(
                "SELECT trial_id, name, split, group_name, selection, step, value, status FROM metric"
            )
        )


def ended(results: Path) -> dict[str, tuple[Any, ...]]:
    return {
        one: (row["status"], row["attempt"], row["finished_at"], row["stopped_step"], row["stopped_value"])
        for one, row in trials(results).items()
        if row["status"] in ("done", "stopped")
    }


def test_asha_stops_trials_once_through_a_kill_and_leaves_the_others_numbers_as_they_are(
    birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    content = {
        "datasets": [{"name": "toybirds", "root": str(birds)}],
        "methods": [METHOD],
        "seeds": [0, 1],
        "resources": {"stages": {"default": {"replicas": 1, "num_cpus": 0.75}}},
    }
    spec = write_spec(name="early", **content, search={"kind": "grid", "scheduler": SCHEDULER})
    shell = Shell(tmp_path / "home", tmp_path / "log")
    results = shell.home / "results.db"

    driver = shell.start("grid", "run", str(spec))
    deadline = time.monotonic() + 180

    def in_the_middle() -> bool:
        try:
            statuses = {row["status"] for row in trials(results).values()}
        except sqlite3.OperationalError:  # its tables are being made
            return False
        return {"done", "stopped", "running"} <= statuses

    while not in_the_middle():
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    time.sleep(3)  # the cluster notices that its driver is gone
    before = ended(results)
    assert len(before) < 12, "killed in the middle"

    printed = shell.run("grid", "run", str(spec))
    after = ended(results)
    assert len(after) == 12, "all have ended"
    assert before.items() <= after.items(), "and what had, did not run again"
    found = trials(results)
    stopped = {one for one, row in found.items() if row["status"] == "stopped"}
    assert 12 / 3 < len(stopped) < 12
    assert "stopped early, 0 failed in" in printed
    for one in stopped:
        row = found[one]
        assert row["stopped_step"] in (2, 4, 8)
        curve = [n[-2] for n in numbers(results) if n[0] == one and n[1] == "held_out_loss"]
        assert len(curve) == row["stopped_step"]
        assert row["stopped_value"] in curve
        assert {n[5] is None for n in numbers(results) if n[0] == one} == {False}, "no final number"
    with sqlite3.connect(shell.home / "mlflow.db") as connection:
        statuses = [status for (status,) in connection.execute("SELECT status FROM runs")]
        (tagged,) = connection.execute(
            "SELECT count(*) FROM tags WHERE key = 'stopped' AND value LIKE '%held_out_loss%'"
        ).fetchone()
    assert statuses.count("KILLED") == len(stopped) + 1, "the killed launch too"
    assert tagged == len(stopped)
    assert "nothing to run: all trials are done, or were stopped early" in shell.run("grid", "run", str(spec))
    assert f"{12 - len(stopped)} done, {len(stopped)} stopped" in shell.run("grid", "status", "early")

    # without a scheduler, in another results store: every number is the same, to the last digit
    plain = write_spec(name="early", **content)
    other = tmp_path / "plain.db"
    shell.run("grid", "run", str(plain), "--results", f"sqlite:///{other}")
    assert {row["status"] for row in trials(other).values()} == {"done"}
    assert numbers(results) < numbers(other)
    first_stop = min(found[one]["finished_at"] for one in stopped)
    later = [one for one, row in found.items() if row["status"] == "done" and row["started_at"] > first_stop]
    assert later, "some of them in a worker that had been stopped before"

    # and here: the stopped ones go on, the others stay
    printed = shell.run("grid", "run", str(plain))
    assert f"{len(stopped)} trials that were stopped early go on" in printed
    assert "they begin anew" in printed
    assert numbers(results) == numbers(other)
    assert {one: trials(results)[one]["attempt"] for one in stopped} == {
        one: found[one]["attempt"] + 1 for one in stopped
    }
    done = found.keys() - stopped
    assert {one: ended(results)[one] for one in done} == {one: after[one] for one in done}
