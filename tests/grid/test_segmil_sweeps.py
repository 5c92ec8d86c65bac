"""What sweeps over the thresholds of SEG-MIL-CBM cost, counted by the planner on the spec that ships."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from components.card import load_card
from components.checkpoints import ROOT
from components.fingerprint import FileHashes
from components.images import ImageIndex
from grid.datasets import Dataset
from grid.plan import Plan, make_plan
from grid.spec import parse_spec

IMAGES = 10
SPEC = ROOT / "experiments" / "segmil_sensitivity.yaml"


def plan(tmp_path: Path, spec: dict[str, Any]) -> Plan:
    index = ImageIndex(
        root=Path("/data"),
        image_ids=np.arange(IMAGES),
        paths=np.array([f"{i}.jpg" for i in range(IMAGES)], dtype=object),
        labels=np.zeros(IMAGES, np.int64),
        groups=np.zeros(IMAGES, np.int64),
        splits=np.array(["train"] * IMAGES, dtype=object),
        classes=("a", "b"),
        group_names=("a", "b"),
    )
    dataset = Dataset(load_card("toybirds"), Path("/data"), index, "f")
    hashes = FileHashes(tmp_path / "hashes.json")
    return make_plan(parse_spec(spec, "t.yaml"), [dataset], hashes, lambda key: False, lambda ids: {}, {}, [])


def test_three_thresholds_at_45_values_add_no_pass_to_a_single_configuration(tmp_path: Path) -> None:
    spec = yaml.safe_load(SPEC.read_text())
    (sweep,) = spec["methods"]
    single = {name: value[0] if isinstance(value, list) else value for name, value in sweep.items()}
    found, alone = plan(tmp_path, spec), plan(tmp_path, {**spec, "methods": [single]})
    assert len(found.trials) >= 45 * 2 == len(spec["seeds"]) * 45
    assert len(alone.trials) == len(spec["seeds"])
    assert set(found.stages) == set(alone.stages)
    assert found.as_json()["model_passes"] == alone.as_json()["model_passes"] > 0


def test_the_heads_and_their_losses_share_every_stage(tmp_path: Path) -> None:
    spec = yaml.safe_load(SPEC.read_text())
    (sweep,) = spec["methods"]
    knobs = {"head": ["v1", "v2"], "pooling": ["attention", "mean", "max"], "lambda_concept": [0, 0.1]}
    alone = plan(tmp_path, spec)
    assert set(plan(tmp_path, {**spec, "methods": [{**sweep, **knobs}]}).stages) == set(alone.stages)
    grey = plan(tmp_path, {**spec, "methods": [{**sweep, "outside": ["image_mean", "grey"]}]})
    added = Counter(stage.stage.kind for key, stage in grey.stages.items() if key not in alone.stages)
    assert added == {"clip_segments": 1, "backbone_segments": len(spec["seeds"])}
