"""What sweeps over the thresholds of SEG-MIL-CBM cost, counted by the planner on the spec that ships."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import yaml

from components.models.weights.checkpoints import ROOT
from grid.planning.plan import Plan

SPEC = ROOT / "experiments" / "segmil_sensitivity.yaml"


def shipped() -> tuple[dict[str, Any], dict[str, Any]]:
    """The one method of the spec, and all else that it says."""
    spec = yaml.safe_load(SPEC.read_text())
    (sweep,) = spec.pop("methods")
    return sweep, spec


def test_three_thresholds_at_45_values_add_no_pass_to_a_single_configuration(
    plan: Callable[..., Plan],
) -> None:
    sweep, spec = shipped()
    single = {name: value[0] if isinstance(value, list) else value for name, value in sweep.items()}
    found, alone = plan(sweep, **spec), plan(single, **spec)
    assert len(found.trials) >= 45 * 2 == len(spec["seeds"]) * 45
    assert len(alone.trials) == len(spec["seeds"])
    assert set(found.stages) == set(alone.stages)
    assert found.as_json()["model_passes"] == alone.as_json()["model_passes"] > 0


def test_the_heads_and_their_losses_share_every_stage(plan: Callable[..., Plan]) -> None:
    sweep, spec = shipped()
    knobs = {"head": ["v1", "v2"], "pooling": ["attention", "mean", "max"], "lambda_concept": [0, 0.1]}
    alone = plan(sweep, **spec)
    assert set(plan({**sweep, **knobs}, **spec).stages) == set(alone.stages)
    grey = plan({**sweep, "outside": ["image_mean", "grey"]}, **spec)
    added = Counter(stage.stage.kind for key, stage in grey.stages.items() if key not in alone.stages)
    assert added == {"clip_segments": 1, "backbone_segments": len(spec["seeds"])}
