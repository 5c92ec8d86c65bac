"""A detector that finds nothing ends well, and everything that shows the trial's numbers says so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.grid.conftest import Shell
from tests.small_grounded_sam import grounded_sam, write_weights

pytestmark = pytest.mark.slow

NO_BOXES = "stage boxes: no boxes in 100% of the images"
NO_SEGMENTS = "stage box_segments: no segments in 100% of the images"
WHOLE_IMAGES = [f"no segment survived in 100% of the bags ({split})" for split in ("val", "test")]


def test_a_detector_that_finds_nothing_is_said_wherever_its_trial_is_shown(
    birds: Path, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    weights = write_weights(tmp_path / "weights")
    shell = Shell(tmp_path / "home", tmp_path / "log", CONCEPTGRID_WEIGHTS=str(weights))
    blind = grounded_sam(stored_threshold=0.999, k_top_stored=2)
    spec = write_spec(
        name="blind",
        datasets=[{"name": "toybirds", "root": str(birds), "images_per_split": 8}],
        methods=[
            {
                "method": "seg_mil_cbm",
                "clip": {"checkpoint": "datasets/toybirds/clip"},
                "segmenter": segmenter,
                "k_top": 2,
                "box_threshold": 0.999,
                "recipe": {"epochs": 1},
                "epochs": 2,
            }
            for segmenter in (blind, {"name": "whole_image"})
        ],
    )
    printed = shell.run("grid", "run", str(spec), timeout=500)
    assert "0.0 boxes an image (most 0), none in 100% of the images" in printed
    warning = "; ".join([NO_BOXES, NO_SEGMENTS, *WHOLE_IMAGES])
    assert f"WARNING of 1 trial: {warning}" in " ".join(printed.split())

    trials = shell.sql("SELECT id, config, warning FROM trial")
    told = {json.loads(t["config"])["segmenter"]["name"]: t["warning"] for t in trials}
    assert told == {"grounded_sam": warning, "whole_image": None}, "who asks for whole images gets them"
    (trial_id,) = (t["id"] for t in trials if t["warning"])
    assert f"warning: {warning}" in shell.run("grid", "show", trial_id)
    status = shell.run("grid", "status", "blind")
    assert f"WARNING of 1 trial: {warning}" in status
    assert "none in 100% of the images" in status
    for view in ("leaderboard", "score", "ablation"):
        assert {row["warning"] for row in shell.sql(f"SELECT warning FROM {view}")} == {None, warning}, view
    for command in (
        ["leaderboard", "--experiment", "blind"],
        ["ablation", "blind"],
        ["scores", "blind", "--metric", "average_accuracy"],
    ):
        assert "WARNING" in shell.run("analysis", *command), command
    page = tmp_path / "page.html"
    shell.run("analysis", "report", "blind", "--out", str(page))
    assert page.read_text().count(NO_BOXES) >= 2, "above the tables, and at the configuration"
