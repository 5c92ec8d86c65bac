"""Real photographs and a real network through the same command, in a reduced form."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.grid.conftest import ROOT, Shell

pytestmark = pytest.mark.slow


def test_waterpets_runs_end_to_end(test_data: Callable[[str], Path], tmp_path: Path) -> None:
    shell = Shell(
        tmp_path / "home",
        tmp_path / "log",
        CONCEPTGRID_DATA=str(test_data("waterpets").parent),
        CONCEPTGRID_WEIGHTS=str(test_data("weights")),
    )
    content = yaml.safe_load((ROOT / "experiments" / "waterpets.yaml").read_text())
    content["methods"] = content["methods"][:5]  # one of each, without the sweeps and controls below them
    spec = tmp_path / "reduced.yaml"
    spec.write_text(yaml.safe_dump(content))
    reduced = [
        "--set", "datasets.0.images_per_split=60", "--set", "seeds=[0]",
        "--set", "methods.4.segmenter=ground_truth", "--set", "methods.4.lambda_concept=0.1",
        "--set", "methods.4.head=v2",
    ]  # fmt: skip
    output = shell.run("grid", "run", str(spec), *reduced)
    assert "concepts carry no meaning" in output
    assert "rebuild it" in output

    trials = shell.sql("SELECT method, status, n_failed, artifacts_uri FROM trial ORDER BY method")
    assert [(t["method"], t["status"], t["n_failed"]) for t in trials] == [
        (method, "done", 0)
        for method in ("group_balanced", "group_dro", "last_layer_retraining", "seg_mil_cbm", "standard")
    ]
    accuracy = shell.sql(
        "SELECT value FROM metric JOIN trial ON trial.id = trial_id WHERE method = 'standard' "
        "AND name = 'adjusted_average_accuracy' AND split = 'test' AND step IS NULL"
    )
    assert accuracy[0]["value"] > 0.75, (
        "real ImageNet features find what goes with the class, animal or scene"
    )
    groups = shell.sql("SELECT DISTINCT group_name FROM metric WHERE name = 'group_accuracy'")
    assert {g["group_name"] for g in groups} == {"cat on land", "cat on water", "dog on land", "dog on water"}
    (pictures,) = (
        Path(t["artifacts_uri"].removeprefix("file://")) for t in trials if t["method"] == "seg_mil_cbm"
    )
    captions = json.loads((pictures / "pictures.json").read_text())
    assert len(captions) == len(os.listdir(pictures / "pictures"))
    assert sum(not picture["wide"] for picture in captions) == 8
    (found,) = shell.sql(
        "SELECT value FROM metric WHERE name = 'attention_on_object' AND split = 'test' AND "
        "group_name = 'all'"
    )
    assert 0.2 < found["value"] <= 1, "true segments: the object is one of them"
