"""Weights that a trial loads itself: in its identity by content, planned, listed, doctored, checked."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data.fingerprint import FileHashes
from grid.inputs import weights
from grid.planning.plan import Plan, Planner
from grid.spec.block import Candidate
from grid.spec.spec import Resources, load_spec
from tests.grid.conftest import unread_birds
from tests.grid.inputs.conftest import entries, folder, grid

__all__ = ["entries", "folder", "grid"]  # fixtures

NAME = "own.safetensors"
BACKBONE = {"name": "small_vit", "checkpoint": NAME}
TUNED = ("cft", "fine_tuning", "grad_mask", "robust_vit", "rrr")


def block(method: str = "fine_tuning", **knobs: Any) -> dict[str, Any]:
    return {"method": method, "recipe": None, "backbone": BACKBONE, "masks": "object", **knobs}


def put(folder: Path, content: bytes, name: str = NAME) -> str:
    """Writes weights of this content; their sum."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("method", TUNED)
def test_other_weights_under_one_name_are_another_trial(
    plan: Callable[..., Plan], folder: Path, method: str
) -> None:
    put(folder, b"one")
    before = plan(block(method))
    assert before.unresolved == ()
    assert [trial.id for trial in plan(block(method)).trials] == [trial.id for trial in before.trials]
    put(folder, b"another")
    assert {trial.id for trial in plan(block(method)).trials}.isdisjoint({t.id for t in before.trials})


def test_weights_that_a_classifier_stage_reads_enter_by_it_alone(
    plan: Callable[..., Plan], folder: Path
) -> None:
    put(folder, b"one")
    planned = plan(block(recipe={"epochs": 1}))
    assert {"classifier"} <= set(planned.trials[0].stages)
    (trial,) = planned.trials
    assert trial.method.models(planned.datasets[0].card) == {}


def test_the_same_weights_under_another_image_size_are_another_trial(folder: Path) -> None:
    """The card's image_size reaches the network through no stage here."""
    from components.models.networks.backbones.small_vit import SmallVit
    from components.studies.guided_fine_tuning.methods.fine_tuning import FineTuning

    put(folder, b"one")
    planner = Planner(FileHashes(folder / "hashes.json"), "wrong", Resources())
    method = FineTuning(recipe=None, backbone=SmallVit(checkpoint=NAME), masks="object")
    small, data = (planner.trial(Candidate(method), one, 0).id for one in (resized(64), resized(128)))
    assert small != data


def resized(size: int) -> Any:
    from dataclasses import replace

    data = unread_birds()
    return replace(data, card=data.card.model_copy(update={"image_size": size}))


def test_missing_weights_are_in_the_plan_and_a_run_stops_before_any_work(
    grid: Callable[..., tuple[int, str, str]],
    folder: Path,
    home: Path,
    birds: Path,
    write_spec: Callable[..., Path],
) -> None:
    spec = str(spec_of(write_spec, birds))
    _, out, _ = grid("weights", "list", spec, "--json")
    assert {row["name"]: row["path"] for row in json.loads(out)} == {NAME: None}
    doctor = {row["check"]: row for row in json.loads(grid("doctor", spec, "--json")[1])}
    assert not doctor[f"weights {NAME!r}"]["ok"]
    status, _, err = grid("run", spec)
    assert status == 2
    assert f"weights {NAME!r}: not found" in err
    assert not (home / "artifacts" / "stages").exists()


def test_weights_that_are_not_the_published_ones_are_refused(
    grid: Callable[..., tuple[int, str, str]],
    folder: Path,
    home: Path,
    birds: Path,
    entries: Callable[..., None],
    write_spec: Callable[..., Path],
) -> None:
    source = {"kind": "url", "address": f"https://example.org/{NAME}"}
    entries(**{NAME: {"source": source, "sha256": hashlib.sha256(b"published").hexdigest()}})
    found = put(folder, b"something else")
    spec = str(spec_of(write_spec, birds))
    doctor = {row["check"]: row for row in json.loads(grid("doctor", spec, "--json")[1])}
    assert found in doctor[f"weights {NAME!r}"]["detail"]
    status, _, err = grid("run", spec)
    assert status == 2
    assert found in err
    put(folder, b"published")
    doctor = {row["check"]: row for row in json.loads(grid("doctor", spec, "--json")[1])}
    assert doctor["weights"]["ok"]


def spec_of(write_spec: Callable[..., Path], birds: Path) -> Path:
    data = [{"name": "toybirds", "root": str(birds)}]
    return write_spec(name="own", datasets=data, methods=[block()])


def test_a_search_plans_the_weights_of_every_choice(
    plan: Callable[..., Plan], folder: Path, write_spec: Callable[..., Path]
) -> None:
    """With Optuna the trials come later; a choice that no stage reads must not be found missing then."""
    choices = [{"name": "small_vit", "checkpoint": name} for name in ("a.safetensors", "b.safetensors")]
    search = {"kind": "optuna", "trials": 2}
    planned = plan(block(backbone=choices), search=search)
    assert len(planned.unresolved) == 2
    spec = write_spec(name="s", datasets=["toybirds"], methods=[block(backbone=choices)], search=search)
    assert weights.names_in(load_spec(spec)) == ["a.safetensors", "b.safetensors"]
