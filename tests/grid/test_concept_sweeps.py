"""What sweeps over concept bottleneck models cost, counted by the planner."""

from collections import Counter
from collections.abc import Callable

import pytest

from components.data.card import load_card
from grid.planning.plan import Plan
from grid.spec.candidates import candidates
from grid.spec.spec import SpecError, parse_spec

CARD = load_card("toybirds")
CLIP = {"checkpoint": "datasets/toybirds/clip"}
IMAGES = 10  # of the birds that `plan` plans with


def kinds(found: Plan) -> Counter[str]:
    return Counter(stage.stage.kind for stage in found.stages.values())


def passes(found: Plan) -> int:
    """Images that models read, over all stages."""
    return int(found.as_json()["model_passes"])


@pytest.mark.parametrize("method", ["lf_cbm", "salf_cbm", "p_cbm"])
def test_a_sweep_over_lambda_costs_one_concept_layer_and_one_path(
    plan: Callable[..., Plan], method: str
) -> None:
    one = {"method": method, "clip": CLIP}
    sweep = {**one, "lambda_sparse": [0.01, 0.001, "7e-4", 0.0001, "val", "nec"], "nec": [1, 5, 30]}
    found, alone = plan(sweep), plan(one)
    assert len(found.trials) == 18
    assert set(found.stages) == set(alone.stages)
    assert set(kinds(found).values()) == {1}
    assert kinds(found)["sparse_path"] == 1


def test_a_second_vocabulary_costs_no_pass_over_images(plan: Callable[..., Plan]) -> None:
    """Nor do pooling, cutoffs, or a dense final layer; each but the last costs a path."""
    one = {"method": "salf_cbm", "clip": CLIP}
    first = plan(one)
    second = plan({**one, "template": ["{}", "a photo of {}"]})
    assert passes(second) == passes(first) == 2 * IMAGES
    added = kinds(second) - kinds(first)
    assert added == {"clip_texts": 1, "concept_layer": 1, "sparse_path": 1}
    pools = plan({**one, "pool": ["mean", "softmax", "max"], "final_layer": ["sparse", "dense"]})
    assert kinds(pools) - kinds(first) == {"sparse_path": 2}


def test_a_grid_of_grids_and_radii_costs_one_pass_of_the_backbone(plan: Callable[..., Plan]) -> None:
    one = {"method": "salf_cbm", "clip": CLIP}
    table = plan({**one, "grid_size": [5, 7, 9], "radius": [27, 32, 37]})
    found = kinds(table)
    assert (found["backbone_maps"], found["classifier"]) == (1, 1)
    assert (found["clip_places"], found["concept_layer"], found["sparse_path"]) == (9, 9, 9)


def test_the_three_methods_share_what_they_can(plan: Callable[..., Plan]) -> None:
    bottlenecks = [{"method": method, "clip": CLIP} for method in ("lf_cbm", "salf_cbm", "p_cbm")]
    found = kinds(plan({"method": "standard"}, *bottlenecks))
    for kind in ("clip_texts", "clip_images", "backbone_images", "classifier"):
        assert found[kind] == 1


def test_a_lambda_beside_the_path_is_refused_in_one_line() -> None:
    block = {"method": "lf_cbm", "lambda_sparse": [0.01, 0.0123]}
    with pytest.raises(SpecError, match=r"lambda_sparse = 0\.0123 is not among lambdas") as error:
        candidates(parse_spec({"name": "t", "datasets": ["toybirds"], "methods": [block]}, "t.yaml"), CARD)
    assert len(str(error.value).splitlines()) == 1
    wider = {**block, "lambdas": [[0.01, 0.0123]]}
    content = parse_spec({"name": "t", "datasets": ["toybirds"], "methods": [wider]}, "t.yaml")
    assert len(candidates(content, CARD).distinct) == 2
