"""A trial whose stage lost rows stops with the artifact's name, and the command offers to mend it; what it had
before stays. `plan` says the same.
"""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from grid.commands.cli import main
from grid.inputs.datasets import locate, read
from grid.planning.plan import Plan
from grid.planning.planned import PlannedStage
from grid.planning.planning import plan_of
from grid.progress import Display
from grid.run import recomputed
from grid.spec.spec import load_spec
from grid.stores.world import World, open_world
from tests.grid.conftest import at_home
from tests.grid.finished_world import SPEC

if TYPE_CHECKING:
    from tests.grid.finished_world import Finished


@pytest.fixture
def spec(finished_once: "Finished", birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose trial is to be run once more, in a home of its own where its stages are finished."""
    shutil.copytree(finished_once.home, tmp_path / "home")
    at_home(tmp_path / "home", monkeypatch)
    (method,) = (m for m in SPEC["methods"] if m["method"] == "lf_cbm")
    path = tmp_path / "again.yaml"
    content = {"name": "again", "datasets": [{"name": "toybirds", "root": str(birds)}], "methods": [method]}
    path.write_text(yaml.safe_dump(content))
    world, plan = planned(path)
    for trial in plan.trials:
        world.results.reopen(trial.id)
    return path


def planned(path: Path) -> tuple[World, Plan]:
    loaded, world = load_spec(path), open_world(None, None)
    datasets = [read(locate(entry), world.hashes, Display(stderr=True)) for entry in loaded.datasets]
    return world, plan_of(loaded, datasets, world)


def part(world: World, plan: Plan) -> tuple[PlannedStage, Path]:
    """A part of the column that the trial reads."""
    (stage,) = (s for s in plan.stages.values() if s.stage.kind == "backbone_images")
    return stage, sorted(Path(world.store.storage.path(f"stages/{stage.key}")).glob("part-*"))[0]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_refused_with_the_artifacts_name_before_any_work(
    spec: Path,
    damage: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world, plan = planned(spec)
    stage, path = part(world, plan)
    damage(path)
    for command in (["run", str(spec)], ["trial", f"{spec}#{plan.trials[0].id}"]):
        monkeypatch.setattr(sys, "argv", ["grid", *command])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line
        assert f"artifact {stage.key}" in line
        assert "--recompute" in line


def test_recomputed_stages_keep_the_rows_that_are_left(spec: Path) -> None:
    world, plan = planned(spec)
    stage, path = part(world, plan)
    assert plan.needed_stages(plan.to_run) == []
    path.unlink()
    assert recomputed(planned(spec)[1], world, True, Display(stderr=True))
    _, again = planned(spec)
    assert [s.key for s in again.needed_stages(again.to_run)] == [stage.key]
    assert 0 < len(world.store.stored_ids(stage.key)) < stage.images
    assert not recomputed(again, world, False, Display(stderr=True)), "what is unfinished is not refused"


def test_the_plan_does_not_count_what_is_broken_as_cached(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, plan = planned(spec)
    whole = plan.as_json()
    stage, path = part(world, plan)
    path.write_bytes(path.read_bytes()[:100])
    said = command(monkeypatch, capsys, "plan", str(spec))
    assert f"BROKEN, counted as to be computed: artifact {stage.key}" in said
    told = json.loads(command(monkeypatch, capsys, "plan", str(spec), "--json"))
    assert (whole["broken_stages"], told["broken_stages"]) == (0, 1)
    assert told["cached_stages"] == whole["cached_stages"] - 1
    assert (whole["model_passes"], told["model_passes"]) == (0, stage.images)
    (row,) = (row for row in told["stages"] if row["broken"])
    assert (row["key"], row["cached"]) == (stage.key, False)


@pytest.mark.parametrize("rerun", [["rerun"], ["run", "--rerun"]])
def test_a_rerun_that_is_refused_loses_no_number(
    rerun: list[str], spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, plan = planned(spec)
    (trial,) = plan.trials
    before = world.results.trial(trial.id)
    assert before["metrics"]
    part(world, plan)[1].unlink()
    if rerun == ["rerun"]:
        command(monkeypatch, capsys, "rerun", trial.id)
        command(monkeypatch, capsys, "run", str(spec), status=2)
    else:
        command(monkeypatch, capsys, "run", str(spec), "--rerun", status=2)
    after = world.results.trial(trial.id)
    assert after == before
    assert "to run again" in command(monkeypatch, capsys, "status", "small")
    assert [trial.id for trial in planned(spec)[1].to_run] == [trial.id]


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> str:
    """What a command printed."""
    monkeypatch.setattr(sys, "argv", ["grid", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    assert (stop.value.code or 0) == status, said
    return said.out


@pytest.mark.slow
def test_with_nothing_to_run_another_mlflow_is_filled(
    finished_once: "Finished",
    birds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The trials are done, and SQL says that they are mirrored."""
    from mlflow import MlflowClient

    shutil.copytree(finished_once.home, tmp_path / "home")
    at_home(tmp_path / "home", monkeypatch)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SPEC, "datasets": [{"name": "toybirds", "root": str(birds)}]}))
    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/new.db").search_experiments()
    filled = []
    for name in ("one.db", "two.db", "one.db"):
        if not (tmp_path / name).exists():
            shutil.copyfile(tmp_path / "new.db", tmp_path / name)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / name}")
        assert "nothing to run" in command(monkeypatch, capsys, "run", str(path))
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            filled.append(sorted(run for (run,) in connection.execute("SELECT name FROM runs")))
    assert len(filled[0]) == len(SPEC["methods"]) + 1
    assert filled == [filled[0]] * 3
