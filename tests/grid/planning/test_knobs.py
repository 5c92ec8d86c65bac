"""What a plan says of its knobs, against plans with one value of each, made by hand."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from components.models.segmentation.segmenters.object_mask import ObjectMask
from grid.planning.knobs import Explanation, explained
from grid.planning.knobs_view import show_knobs
from grid.planning.plan import Plan

CLIP = {"checkpoint": "datasets/toybirds/clip"}
BLOCK: dict[str, Any] = {
    "method": "seg_mil_cbm",
    "clip": CLIP,
    "segmenter": [{"name": "felzenszwalb", "scale": [100, 200]}, "slic"],
    "merge": ["keep", "union"],
    "tau_iou": [0.3, 0.5, 0.7],
    "lambda_concept": [0.1, 0.2],
    "recipe": {"epochs": [2, 3]},
}
FIRST: dict[str, dict[str, Any]] = {
    "methods.0.segmenter": {"segmenter": BLOCK["segmenter"][0]},
    "methods.0.segmenter.scale": {"segmenter": [{"name": "felzenszwalb", "scale": 100}, "slic"]},
    "methods.0.merge": {"merge": "keep"},
    "methods.0.tau_iou": {"tau_iou": 0.3},
    "methods.0.lambda_concept": {"lambda_concept": 0.1},
    "methods.0.recipe.epochs": {"recipe": {"epochs": 2}},
}
Make = Callable[..., Plan]


def sizes(plan: Plan) -> tuple[int, int, int]:
    stages = plan.stages.values()
    return len(plan.trials), len(stages), sum(stage.model_passes for stage in stages)


def test_each_knob_multiplies_what_a_plan_without_it_lacks(plan: Make) -> None:
    told = explained(plan(BLOCK, {"method": "standard"}, seeds=[0, 1]))
    every = sizes(plan(BLOCK, {"method": "standard"}, seeds=[0, 1]))
    assert [knob.place for knob in told.knobs] == ["seeds", *FIRST]
    for knob in told.knobs[1:]:
        without = sizes(plan({**BLOCK, **FIRST[knob.place]}, {"method": "standard"}, seeds=[0, 1]))
        factors = [round(whole / part, 2) for whole, part in zip(every, without, strict=True)]
        assert [knob.trials, knob.stage_runs, knob.passes] == factors, knob.place
    one_seed = sizes(plan(BLOCK, {"method": "standard"}, seeds=[0]))
    assert told.knobs[0].stage_runs == round(every[1] / one_seed[1], 2)
    assert told.passes[0] == every[2]


def test_which_stages_a_knob_changes_and_when(plan: Make) -> None:
    told = {knob.place: knob for knob in explained(plan(BLOCK, seeds=[0, 1])).knobs}
    assert told["methods.0.lambda_concept"].stages == ()
    iou = told["methods.0.tau_iou"]
    assert "merged_segments" in iou.stages
    assert iou.when == "only with merge = union"
    assert set(told["methods.0.recipe.epochs"].stages) == set(told["seeds"].stages)
    assert "segments" in told["methods.0.segmenter.scale"].stages
    assert told["methods.0.segmenter"].values == "felzenszwalb {scale: 100}, slic"


def test_where_a_knob_changes_a_stage_but_for_a_setting_of_another(plan: Make) -> None:
    union_first = {**BLOCK, "merge": ["union", "keep"]}
    told = {knob.place: knob.when for knob in explained(plan(union_first)).knobs}
    assert told["methods.0.tau_iou"] == "not with merge = keep"


def test_what_leaves_a_tenth_of_the_passes(plan: Make) -> None:
    told = explained(plan(BLOCK, seeds=[0, 1]))
    every, left = told.passes
    assert left * 10 <= every
    assert told.cheaper[0] in FIRST
    chosen: dict[str, Any] = {}
    for place in told.cheaper:
        if place != "seeds":
            chosen |= FIRST[place]
    if {"methods.0.segmenter", "methods.0.segmenter.scale"} <= {*told.cheaper}:
        chosen["segmenter"] = {"name": "felzenszwalb", "scale": 100}
    seeds = [0] if "seeds" in told.cheaper else [0, 1]
    assert sizes(plan({**BLOCK, **chosen}, seeds=seeds))[2] == left


def test_the_parameters_that_alone_set_stages_apart(plan: Make) -> None:
    told = explained(plan(BLOCK, seeds=[0, 1]))
    stages = list(plan(BLOCK, seeds=[0, 1]).stages.values())
    masks = [s for s in stages if s.stage.kind == "segments" and s.stage.segmenter != ObjectMask()]  # type: ignore[attr-defined]
    (scale,) = (p for p in told.parted if (p.kind, p.parameter) == ("segments", "segmenter.scale"))
    assert (scale.stages - scale.without, len(masks)) == (1, 3)
    seeds = [p for p in told.parted if (p.kind, p.parameter) == ("classifier", "seed")]
    assert [(p.stages, p.without) for p in seeds] == [(4, 2)]
    assert [p.passes for p in told.parted] == sorted((p.passes for p in told.parted), reverse=True)


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_a_search_pays_for_its_budget_whatever_is_swept(plan: Make, kind: str) -> None:
    block = {**BLOCK, "lambda_concept": {"low": 0.01, "high": 1, "log": True}}
    told = explained(plan(block, search={"kind": kind, "trials": 4}))
    assert {(knob.trials, knob.passes) for knob in told.knobs} == {(None, None)}
    (ranged,) = (knob for knob in told.knobs if knob.place == "methods.0.lambda_concept")
    assert (ranged.values, ranged.stages) == ("0.01 to 1", ())
    assert told.cheaper == ()


def shown(told: Explanation) -> list[str]:
    text = StringIO()
    show_knobs(told, Console(file=text, width=80))
    return text.getvalue().splitlines()


def test_a_knob_that_all_variants_sweep_is_one(plan: Make) -> None:
    block = {"method": "seg_mil_cbm", "clip": CLIP, "tau_iou": [0.3, 0.5], "bag_size": 3}
    variants = {"a": {"recipe": {"epochs": 2}}, "b": {"recipe": {"epochs": 3}, "bag_size": [4, 5]}}
    told = explained(plan({**block, "variants": variants}))
    assert [(knob.place, knob.values, knob.trials) for knob in told.knobs] == [
        ("methods.0.variants", "a, b", 3),
        ("methods.0.tau_iou", "0.3, 0.5", 2),
        ("methods.0.bag_size", "4, 5", 1.5),
    ]


def test_every_knob_has_one_line(plan: Make) -> None:
    told = explained(plan(BLOCK, seeds=[0, 1]))
    lines = shown(told)
    assert [line.split()[0] for line in lines[1 : len(told.knobs) + 1]] == [knob.place for knob in told.knobs]
    assert lines[-1].startswith("ten times cheaper: one value each of ")
    assert shown(explained(plan({"method": "standard"}))) == ["nothing is swept: one configuration, one seed"]
