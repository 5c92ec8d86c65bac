"""A search by a number that no trial has is refused when planning, or called blind when it has run."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.method import Method
from grid.names import component_class
from grid.planning.plan import Plan
from grid.run import _is_blind
from grid.spec.spec import SpecError
from tests.grid.conftest import unread_birds
from tests.grid.finished_world import Finished
from tests.grid.test_life_cycle import SEARCH, World, optuna_run

STANDARD = {"method": "standard", "recipe": [{"epochs": 1}, {"epochs": 2}]}
SEG_MIL: dict[str, Any] = SEARCH["methods"][0]  # type: ignore[index]


def search(**given: Any) -> dict[str, Any]:
    return {"kind": "optuna", "trials": 2, **given}


@pytest.mark.parametrize(
    ("block", "given", "said"),
    [
        (STANDARD, {"metric": "worst_group_acuracy"}, "closest: worst_group_accuracy"),
        (STANDARD, {"metric": "group_accuracy"}, "search.metric = 'group_accuracy'"),
        (STANDARD, {"selection": "val_average"}, "search.selection = 'val_average'"),
        (SEG_MIL, {"selection": "val_worst_groups"}, "closest: val_worst_group"),
        (
            SEG_MIL,
            {"metric": "concept_cosine", "selection": "val_average"},
            "search.metric = 'concept_cosine'",
        ),
        ({"method": "lf_cbm"}, {"selection": "nec_7"}, "search.selection = 'nec_7'"),
        ({"method": "lf_cbm", "final_layer": "dense"}, {"selection": "val_average"}, "search.selection"),
        ({"method": "cft"}, {"metric": "object_pointing_accuracy"}, "search.metric"),
        ({"method": "eac"}, {"metric": "average_accuracy"}, "eac reports nothing on the split val"),
        ({"method": "last_layer_retraining"}, {}, "last_layer_retraining reports nothing on the split val"),
    ],
)
def test_what_no_trial_will_have_is_refused(
    plan: Callable[..., Plan], block: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError) as refused:
        plan(block, search=search(**given))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("block", "given"),
    [
        (STANDARD, {"metric": "worst_group_accuracy"}),
        (SEG_MIL, {"metric": "attention_on_object"}),
        (SEG_MIL, {"metric": "adjusted_average_accuracy", "selection": "val_worst_group"}),
        ({"method": "lf_cbm"}, {"selection": "nec_5"}),
        ({"method": "cft"}, {"metric": "average_accuracy", "selection": "start"}),
        ({"method": "eac", "sample": {"split": "val"}}, {"metric": "insertion_auc_eac_official"}),
        ({"method": "last_layer_retraining", "source": ["val", "train"]}, {}),
        (STANDARD, {"kind": "random", "metric": "unused"}),
    ],
)
def test_what_a_trial_may_have_is_taken(
    plan: Callable[..., Plan], block: dict[str, Any], given: dict[str, Any]
) -> None:
    assert plan(block, search=search(**given)).trials


@pytest.mark.parametrize(("metric", "blind"), [("attention_on_object", True), ("average_accuracy", False)])
def test_a_search_that_never_saw_a_number_is_called_blind(tmp_path: Path, metric: str, blind: bool) -> None:
    """Its trials, see `World`, report the average accuracy alone."""
    world = World(tmp_path, **{**SEARCH, "search": search(metric=metric)})
    optuna_run(world)
    said: list[str] = []
    assert _is_blind(world.plan(), world, SimpleNamespace(say=said.append)) is blind  # type: ignore[arg-type]
    assert len(said) == blind
    if blind:
        assert "seg_mil_cbm has a number for search.metric = 'attention_on_object'" in said[0]
        assert "average_accuracy (last)" in said[0]


def test_what_finished_trials_report_on_val_a_search_may_go_by(finished: Finished) -> None:
    for method, trial_id in finished.ids.items():
        if method == "pending":
            continue
        metrics = finished.world.results.trial(trial_id)["metrics"]
        reported = {
            (m["selection"], m["name"])
            for m in metrics
            if m["split"] == "val" and m["group_name"] == "all" and m["step"] is None
        }
        known = component_class(Method.FOLDER, method)().validated(unread_birds().card)
        assert reported
        assert reported <= {(selection, name) for selection, names in known.items() for name in names}
