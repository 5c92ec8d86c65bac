"""Detector, segmenter and unions through the command line on real Ray: small models in the genuine formats."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.grid.conftest import Shell
from tests.small_grounded_sam import grounded_sam, write_weights

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights folder under the names that the spec gives."""
    folder = write_weights(tmp_path / "weights")
    shutil.copytree("datasets/toybirds/clip", folder / "clip")
    return folder


def test_thresholds_share_one_pass_and_unions_are_encoded_anew(
    birds: Path, weights: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    shell = Shell(tmp_path / "home", tmp_path / "log", CONCEPTGRID_WEIGHTS=str(weights))
    spec = write_spec(
        name="grounded",
        datasets=[{"name": "toybirds", "root": str(birds), "images_per_split": 8}],
        methods=[
            {
                "method": "seg_mil_cbm",
                "clip": {"checkpoint": "clip"},
                "segmenter": grounded_sam(stored_threshold=0.3, k_top_stored=3),
                "recipe": {"epochs": 1},
                "tau_min_pixels": 0,
                "epochs": 2,
                **knobs,
            }
            for knobs in (
                {"k_top": [1, 3], "box_threshold": [0.3, 0.5], "merge": "mean"},
                {"k_top": 3, "box_threshold": 0.3, "merge": "union"},
            )
        ],
        resources={"stages": {"default": {"replicas": {"min": 1, "max": 2}, "num_cpus": 0.75}}},
    )
    printed = shell.run("grid", "run", str(spec))
    assert "segments an image" in printed
    stages = shell.sql("SELECT * FROM stage")
    images = {json.loads(stage["manifest"])["images"] for stage in stages} - {0}
    (count,) = images
    kinds = Counter(stage["kind"] for stage in stages)
    for kind in ("clip_images", "clip_texts", "boxes", "box_segments", "backbone_images"):
        assert kinds[kind] == 1, kind
    assert kinds["merged_segments"] == 1
    assert kinds["clip_segments"] == kinds["backbone_segments"] == 2
    by_kind = {stage["kind"]: stage for stage in stages}
    assert by_kind["boxes"]["model_inputs"] == 3 * count, "a pass for each of the concepts that are stored"
    assert by_kind["merged_segments"]["model_inputs"] == 0
    assert {t["status"] for t in shell.sql("SELECT status FROM trial")} == {"done"}
    assert len(shell.sql("SELECT id FROM trial")) == 5
