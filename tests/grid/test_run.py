"""The main job through the command line, on real Ray, SQL and MLflow."""

import json
import math
import pickle
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from components.data.generators.toybirds import Toybirds
from tests.grid.conftest import Shell

pytestmark = pytest.mark.slow

CLIP = {"checkpoint": "datasets/toybirds/clip"}
QUICK = {"epochs": 1}
READ_TIME = {  # 3 x 2 x 2 x 2 = 24 trials that differ in read-time knobs alone
    "k_top": [3, 5, 10],
    "tau_min_pixels": [100, 1000],
    "tau_iou": [0.5, 0.8],
    "lambda_concept": [0, 0.1],
}
SMALL_POOL = {"stages": {"default": {"replicas": 1, "num_cpus": 0.75}}}


def bags(**knobs: Any) -> dict[str, Any]:
    return {"method": "seg_mil_cbm", "clip": CLIP, "recipe": QUICK, "segmenter": "slic", "epochs": 2, **knobs}


def mlflow_statuses(home: Path) -> list[str]:
    with sqlite3.connect(home / "mlflow.db") as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]


def test_a_read_time_grid_pays_one_pass_and_a_broken_image_is_a_counted_failure(
    birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    shell = Shell(tmp_path / 'it\'s 100%20 "mine" #1?', tmp_path / "counted.log")
    root = tmp_path / "birds #2?"
    shutil.copytree(birds, root)
    broken = sorted((root / "images").iterdir())[-1]  # ids ascend through the splits: a test image
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) * 2 // 3])
    spec = write_spec(
        name="readtime",
        datasets=[{"name": "toybirds", "root": str(root)}],
        methods=[{"method": "standard", "recipe": QUICK}, bags(**READ_TIME)],
        resources=SMALL_POOL,
    )
    shell.run("grid", "run", str(spec))

    # every model saw every readable image once (segments: every segment once), in 24 trials
    stages = {row["kind"]: row for row in shell.sql("SELECT * FROM stage")}
    assert len(stages) == 7
    assert len(shell.sql("SELECT key FROM stage")) == 8, "the object's true masks are segments too"
    segments = stages["clip_segments"]["model_inputs"]
    assert segments > 127
    assert shell.images_embedded() == 127 + segments
    assert stages["backbone_segments"]["model_inputs"] == segments
    assert stages["backbone_images"]["model_inputs"] == stages["clip_images"]["model_inputs"] == 127
    for kind in ("clip_images", "segments", "clip_segments", "backbone_images", "backbone_segments"):
        assert (stages[kind]["images"], stages[kind]["failed"]) == (128, 1), kind
    assert f"images/{broken.name}: OSError: " in stages["clip_images"]["manifest"]
    assert "truncated" in stages["clip_images"]["manifest"]

    # the broken image stays in the denominator, as wrong
    trials = shell.sql("SELECT method, status, n_failed FROM trial")
    assert len(trials) == 25
    assert {(t["status"], t["n_failed"]) for t in trials} == {("done", 1)}
    accuracies = shell.sql(
        "SELECT DISTINCT value FROM metric WHERE name = 'average_accuracy' AND split = 'test' AND step IS NULL"
    )
    for row in accuracies:
        right = row["value"] * 32
        assert right == pytest.approx(round(right)), "accuracies are counts over all 32 test images"
        assert right <= 31

    # SQL answers the everyday questions, MLflow mirrors every trial and the launch
    ablation = shell.sql(
        "SELECT value, mean, std, n, ci_low, ci_high FROM ablation WHERE experiment='readtime' "
        "AND method='seg_mil_cbm' AND parameter='k_top' AND metric='worst_group_accuracy' "
        "AND split='test' AND selection='last'"
    )
    assert sorted(row["value"] for row in ablation) == ["10", "3", "5"]
    assert [row["n"] for row in ablation] == [1, 1, 1], "one seed"
    assert mlflow_statuses(shell.home) == ["FINISHED"] * 26

    # the same command again: no stage, no trial, neither Ray nor MLflow
    started = time.monotonic()
    output = shell.run("grid", "run", str(spec))
    assert time.monotonic() - started < 30
    assert "nothing to run" in output
    assert shell.images_embedded() == 127 + segments
    assert len(shell.sql("SELECT id FROM launch")) == 1
    assert len(mlflow_statuses(shell.home)) == 26

    # one trial by hand, in one process and without Ray, gives the same numbers
    chosen = shell.sql("SELECT id FROM trial WHERE method = 'seg_mil_cbm' ORDER BY id LIMIT 1")[0]["id"]
    by_hand = json.loads(shell.run("grid", "trial", f"{spec}#{chosen[:12]}"))
    recorded = shell.sql(
        "SELECT name, split, group_name, selection, step, value FROM metric "
        f"WHERE trial_id = '{chosen}' AND value IS NOT NULL"
    )
    key = ("name", "split", "group", "selection", "step")
    again = {tuple(m[k] for k in key): float(m["value"]) for m in by_hand["metrics"]}
    assert len(recorded) == sum(math.isfinite(value) for value in again.values()) > 100
    for row in recorded:
        place = (row["name"], row["split"], row["group_name"], row["selection"], row["step"])
        assert again[place] == row["value"], place

    # the commands that look after a world
    assert "25 done" in shell.run("grid", "status", "readtime")
    assert f"id: {chosen}" in shell.run("grid", "show", chosen[:8])
    assert "MISSING" not in shell.run("grid", "doctor", str(spec))
    assert "8 artifacts, 0 problems" in shell.run("grid", "artifacts", "verify")
    assert "0 artifacts" in shell.run("grid", "artifacts", "gc", "--older-than", "0")
    shell.run("grid", "rerun", chosen)
    assert json.loads(shell.run("grid", "plan", str(spec), "--json"))["to_run"] == 1

    # another home is another world
    other = Shell(tmp_path / "other", tmp_path / "other.log")
    other_plan = other.run("grid", "plan", str(spec), "--json")
    assert '"done": 0' in other_plan
    assert '"cached_stages": 0' in other_plan

    # every place is the one that was named, with nothing beside it
    made = {shell.home, root, spec, shell.log, other.home, other.log}
    assert set(tmp_path.iterdir()) <= made
    assert {"results.db", "mlflow.db", "artifacts"} <= {path.name for path in shell.home.iterdir()}


def wait_until(condition: Callable[[], bool], process: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_killed_in_stages_and_in_trials_the_same_command_goes_on(
    tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    root = tmp_path / "birds"
    Toybirds(n_train=400, n_val=100, n_test=300).generate(root)
    spec = write_spec(
        name="killed",
        datasets=[{"name": "toybirds", "root": str(root)}],
        methods=[
            bags(segmenter={"name": "slic", "n_segments": 4}, k_top=[3, 5], lambda_concept=[0, 0.1, 0.5])
        ],
        resources={"stages": {"default": {"replicas": 1, "num_cpus": 0.75}}},
    )
    shell = Shell(tmp_path / "home", tmp_path / "log", SLOW_IMAGE="0.002", SLOW_FIT="1.0")

    # kill -9 in the middle of a stage: a part of 256 rows is there, the manifest is not
    driver = shell.start("grid", "run", str(spec))
    parts = lambda: list((shell.home / "artifacts" / "stages").glob("*/part-*.parquet"))  # noqa: E731
    wait_until(lambda: any(not (p.parent / "manifest.json").exists() for p in parts()), driver)
    driver.kill()
    driver.wait()
    time.sleep(3)  # the cluster notices that its driver is gone
    kept = {path: path.stat().st_mtime_ns for path in parts()}
    before = shell.images_embedded()

    # and again in the middle of the trials
    driver = shell.start("grid", "run", str(spec))
    results = shell.home / "results.db"

    def done() -> int:
        with sqlite3.connect(results) as connection:
            return int(connection.execute("SELECT count(*) FROM trial WHERE status='done'").fetchone()[0])

    wait_until(lambda: done() >= 2, driver)
    driver.kill()
    driver.wait()
    time.sleep(3)
    finished = shell.sql("SELECT id, attempt, finished_at FROM trial WHERE status = 'done'")
    embedded = shell.images_embedded()

    shell.run("grid", "run", str(spec))
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "finished parts are not written again"
    assert shell.images_embedded() == embedded, "finished stages are not computed again"
    stages = {row["kind"]: row for row in shell.sql("SELECT * FROM stage")}
    once = stages["clip_images"]["model_inputs"] + stages["clip_segments"]["model_inputs"]
    assert stages["clip_images"]["model_inputs"] == 800
    assert embedded <= once + before, "at most what the killed driver had not stored is computed twice"
    assert embedded < once + 800 * 4, "and by far not everything"

    trials = {row["id"]: row for row in shell.sql("SELECT id, status, attempt, finished_at FROM trial")}
    assert len(trials) == 6
    assert {row["status"] for row in trials.values()} == {"done"}
    for row in finished:
        assert trials[row["id"]]["attempt"] == row["attempt"]
        assert trials[row["id"]]["finished_at"] == row["finished_at"], "finished trials are not run again"
    assert "RUNNING" not in mlflow_statuses(shell.home)
    launches = shell.sql("SELECT status FROM launch ORDER BY id")
    assert [row["status"] for row in launches] == ["interrupted", "interrupted", "done"]


def test_in_the_background_a_polite_kill_interrupts_a_run(
    birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    spec = write_spec(
        name="stopped",
        datasets=[{"name": "toybirds", "root": str(birds)}],
        methods=[bags(k_top=[3, 5])],
        resources=SMALL_POOL,
    )
    shell = Shell(tmp_path / "home", tmp_path / "log", SLOW_FIT="100")
    driver = shell.start("grid", "run", str(spec), background=True)
    results = shell.home / "results.db"

    def is_running() -> bool:
        if not results.exists():
            return False
        with suppress(sqlite3.OperationalError), sqlite3.connect(results) as connection:
            return bool(connection.execute("SELECT 1 FROM trial WHERE status = 'running'").fetchall())
        return False  # its tables are being made

    wait_until(is_running, driver)
    driver.send_signal(signal.SIGINT)
    time.sleep(1)
    assert driver.poll() is None, "ignored"
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "interrupted; the same command goes on where it stopped" in said
    assert "Traceback" not in said
    statuses = {trial["status"] for trial in shell.sql("SELECT status FROM trial")}
    assert "interrupted" in statuses
    assert "running" not in statuses
    assert [row["status"] for row in shell.sql("SELECT status FROM launch")] == ["interrupted"]
    assert "KILLED" in mlflow_statuses(shell.home)
    assert "RUNNING" not in mlflow_statuses(shell.home)


def test_weights_that_cannot_be_loaded_fail_their_stage_in_one_line(
    birds: Path, tmp_path: Path, shell: Shell, write_spec: Callable[..., Path]
) -> None:
    """A tensor file cut short, and a pickle with code in it: what does not need them goes on."""
    for name, content in (("cut", b"\x80\x00\x00\x00\x00\x00\x00\x00{"), ("code", pickle.dumps(print))):
        folder = tmp_path / name
        shutil.copytree(CLIP["checkpoint"], folder)
        weights = folder / "open_clip_model.safetensors"
        weights.unlink()
        (weights if name == "cut" else folder / "open_clip_pytorch_model.bin").write_bytes(content)
    spec = write_spec(
        name="broken",
        datasets=[{"name": "toybirds", "root": str(birds)}],
        methods=[
            {"method": "standard", "recipe": QUICK},
            bags(clip=[{"checkpoint": str(tmp_path / name)} for name in ("cut", "code")]),
        ],
        resources=SMALL_POOL,
    )
    printed = shell.run("grid", "run", str(spec), status=1)
    lines = [line for line in printed.splitlines() if "WrongWeights" in line]
    for name, reason in (("cut", "broken file"), ("code", "refused")):
        assert any(str(tmp_path / name) in line and reason in line for line in lines), printed
    assert "Traceback" not in printed
    trials = shell.sql("SELECT method, status FROM trial")
    ended = sorted((t["method"], t["status"]) for t in trials)
    assert ended == [("seg_mil_cbm", "failed")] * 2 + [("standard", "done")]
