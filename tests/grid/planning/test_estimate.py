"""What a plan will take, by what the results store measured: for people, for programs, and beside `analysis cost`."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.cost import cost, of_stages, of_trials
from components.stage import ColumnStage
from grid.inputs.datasets import Dataset, locate, read
from grid.planning.plan import Plan
from grid.planning.plan_view import show_plan
from grid.planning.planning import plan_of
from grid.progress import Display
from grid.spec.spec import Spec, parse_spec
from grid.stores.world import World, open_world

METHODS = [
    {"method": "standard"},
    {"method": "seg_mil_cbm", "clip": {"checkpoint": "datasets/toybirds/clip"}, "segmenter": "slic"},
]
IMAGES = 128


@pytest.fixture
def world(home: Path) -> World:
    return open_world(None, None)


def planned(world: World, root: Path, **more: Any) -> Plan:
    content = {"name": "t", "datasets": [{"name": "toybirds", "root": str(root)}], "methods": METHODS, **more}
    spec: Spec = parse_spec(content, "t.yaml")
    datasets: list[Dataset] = [read(locate(spec.datasets[0]), world.hashes, Display())]
    return plan_of(spec, datasets, world)


def run(world: World, plan: Plan) -> tuple[float, float]:
    """Enters everything as done: stages of 1, 2, 4 … s and trials of 0.5, 1.5, 2.5 … s; returns both sums."""
    launch = world.results.begin_launch("t", spec="", plan=plan.as_json(), command="run")
    world.results.enter("t", [trial.entry() for trial in plan.trials])
    for number, stage in enumerate(plan.stages.values()):
        told = {"key": stage.key, "kind": stage.stage.kind, "identity": stage.identity, "device": "cpu"}
        dataset = stage.dataset.name if stage.dataset else None
        world.results.record_stage(
            {**told, "dataset": dataset, "images": stage.images, "seconds": 2.0**number}
        )
    for number, trial in enumerate(plan.trials):
        report = {
            "attempt": world.results.claim(trial.id, launch), "metrics": [], "n_failed": 0, "on_failed": "wrong",
            "seconds": 0.5 + number, "provenance": {"device": "cpu"},
        }  # fmt: skip
        assert world.results.finish(trial.id, report)
    world.results.end_launch(launch, "done")
    return 2.0 ** len(plan.stages) - 1, len(plan.trials) ** 2 / 2


def shown(plan: Plan) -> str:
    text = StringIO()
    show_plan(plan, Console(file=text, width=500))
    (line,) = [line for line in text.getvalue().splitlines() if line.startswith("seconds left")]
    return line


def test_what_was_never_measured_is_named(world: World, birds: Path) -> None:
    fresh = planned(world, birds)
    kinds = dict.fromkeys(stage.stage.kind for stage in fresh.stages.values())
    assert fresh.as_json()["not_measured"] == [*kinds, "standard", "seg_mil_cbm"]
    assert shown(fresh) == f"seconds left: not measured before: {', '.join(kinds)}, standard, seg_mil_cbm"
    run(world, planned(world, birds, methods=METHODS[:1]))
    some = planned(world, birds, seeds=[3])
    assert "of stages" in shown(some)
    assert shown(some).endswith("not measured before: clip_images, clip_texts, segments, clip_segments, "
                                "backbone_segments, seg_mil_cbm")  # fmt: skip


def test_the_same_again_takes_what_it_took_and_cost_says_so_too(world: World, birds: Path) -> None:
    """No artifact is there, and all trials run again: the plan and `analysis cost` give the sums of what was paid."""
    first = planned(world, birds, seeds=[0, 1])
    stages, trials = run(world, first)
    for trial in first.trials:
        assert world.results.reopen(trial.id)
    again = planned(world, birds, seeds=[0, 1])
    assert again.stage_seconds.seconds == pytest.approx(stages)
    assert again.trial_seconds.seconds == pytest.approx(trials)
    whole = cost(world.results, "t")
    assert whole.again(of_stages(whole.paid)).seconds == pytest.approx(again.stage_seconds.seconds)
    assert whole.again(of_trials(whole.paid)).seconds == pytest.approx(again.trial_seconds.seconds)
    assert shown(again) == (
        f"seconds left: about {stages:.0f} of stages, {trials:.0f} of trials, one after the other, on hardware as before"
    )


def test_images_count_by_the_image_and_a_gpu_takes_no_seconds_of_a_cpu(world: World, birds: Path) -> None:
    first = planned(world, birds)
    run(world, first)
    (clip,) = (stage for stage in first.stages.values() if stage.stage.kind == "clip_images")
    work, images = clip.work("cpu")
    assert isinstance(clip.stage, ColumnStage)
    assert images == IMAGES
    number = list(first.stages).index(clip.key)
    assert planned(world, birds).throughput.seconds_each(work) == pytest.approx(2.0**number / IMAGES)
    gpu = planned(world, birds, seeds=[1], resources={"stages": {"clip_images": {"num_gpus": 1}}})
    assert gpu.stage_seconds.not_measured[:1] == ("clip_images",)
    trials = planned(world, birds, seeds=[1], resources={"methods": {"standard": {"num_gpus": 1}}})
    assert trials.trial_seconds.not_measured == ("standard",)


def test_a_search_takes_as_many_trials_as_its_budget_has_left(world: World, birds: Path) -> None:
    run(world, planned(world, birds, methods=METHODS[1:]))  # its one trial took 0.5 s
    search = {"kind": "optuna", "trials": 12, "metric": "average_accuracy"}
    knobs = {**METHODS[1], "lambda_concept": {"low": 0.0, "high": 1.0}, "segmenter": ["slic", "felzenszwalb"]}
    found = planned(world, birds, methods=[knobs], search=search)
    assert found.trial_seconds.seconds == pytest.approx((12 - 1) * 0.5), "one of them is done"
