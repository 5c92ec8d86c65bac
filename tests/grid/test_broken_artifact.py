"""A trial whose stage lost rows stops with the artifact's name, and the command offers to mend it."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from grid.commands.cli import main
from grid.inputs.datasets import locate, read
from grid.planning.plan import Plan, PlannedStage
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
    assert recomputed(plan, world, True, Display(stderr=True))
    _, again = planned(spec)
    assert [s.key for s in again.needed_stages(again.to_run)] == [stage.key]
    assert 0 < len(world.store.stored_ids(stage.key)) < stage.images
    assert not recomputed(again, world, False, Display(stderr=True)), "what is unfinished is not refused"
