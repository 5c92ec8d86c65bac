"""The quick comparison of explanations through the command line, in a reduced form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grid.conftest import ROOT, Shell

pytestmark = pytest.mark.slow

IMAGES, COALITIONS = 24, 300


def reduced() -> dict[str, Any]:
    """Eac with both fills, and LIME, on few birds."""
    spec = yaml.safe_load((ROOT / "experiments" / "eac_quick.yaml").read_text())
    spec["datasets"][0]["generator"] |= {"n_train": 600, "n_val": 100, "n_test": 100}
    shapley, black, lime = (
        next(block for block in spec["methods"] if block["method"] == method and fits(block))
        for method, fits in (
            ("eac", lambda block: block["value"] == "shapley"),
            ("eac", lambda block: block["fill"] == "black"),
            ("lime", lambda block: True),
        )
    )
    for block in (shapley, black, lime):
        block["sample"] = {"n_images": IMAGES}
    for block in (shapley, black):
        block["n_coalitions"] = COALITIONS
    return {**spec, "methods": [shapley, black, lime]}


def test_eac_beats_random_order_and_lime_and_its_first_mask_lies_on_the_bird(
    tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    shell = Shell(tmp_path / "home", tmp_path / "log")
    shell.run("grid", "run", str(write_spec(**reduced())), timeout=600)

    rows = shell.sql(
        "SELECT method, p.value AS fill, m.name, m.value, n_failed FROM trial t JOIN metric m ON t.id = m.trial_id "
        "JOIN trial_param p ON p.trial_id = t.id AND p.name = 'fill' "
        "WHERE step IS NULL AND group_name IN ('all', 'object') AND m.value IS NOT NULL"
    )
    assert {row["n_failed"] for row in rows} == {0}
    found = {(row["method"], row["fill"].strip('"'), row["name"]): row["value"] for row in rows}
    assert found["eac", "mean", "n_images"] == found["lime", "mean", "n_images"] == IMAGES
    for kind, sign in (("insertion", 1), ("deletion", -1)):
        name = f"{kind}_auc_eac_official"
        for fill in ("mean", "black"):
            ours = found["eac", fill, name]
            assert sign * (ours - found["eac", fill, f"{name}_random_order"]) > 0.1, (kind, fill)
        assert sign * (found["eac", "mean", name] - found["lime", "mean", name]) > 0.05, kind
    covered = found["eac", "mean", "top_mask_coverage"]
    assert covered > 2 * found["eac", "mean", "top_mask_coverage_random_order"]

    stages = shell.sql("SELECT kind, images, model_inputs FROM stage")
    coalitions = [row for row in stages if row["kind"] == "coalitions"]
    assert [row["images"] for row in coalitions] == [IMAGES, IMAGES]
    assert all(row["model_inputs"] <= IMAGES * (COALITIONS + 3) for row in coalitions)
    assert all(row["images"] == IMAGES for row in stages if row["kind"] in ("heatmaps", "mask_curves"))
