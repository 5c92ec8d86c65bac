"""The grid of `experiments/salf_toybirds.yaml`, reduced: what it costs, and whether maps point at parts."""

from collections import Counter
from pathlib import Path

import pytest

from tests.grid.conftest import Shell

pytestmark = pytest.mark.slow

REDUCED = {
    "datasets": "[{name: toybirds, generator: {n_train: 800, n_val: 60, n_test: 150}}]",
    "seeds": "[0]",
    "methods.3.grid_size": "[3, 5]",
    "methods.4.grid_size": "5",
    "methods.3.radius": "32",
}


def test_concept_maps_point_at_their_parts_and_a_sweep_over_lambda_costs_one_path(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path / "log")
    changes = [part for key, value in REDUCED.items() for part in ("--set", f"{key}={value}")]
    shell.run("grid", "run", "experiments/salf_toybirds.yaml", *changes, timeout=400)

    trials = shell.sql("SELECT id, method, status FROM trial")
    assert Counter((t["method"], t["status"]) for t in trials) == {
        ("standard", "done"): 1,
        ("lf_cbm", "done"): 3,
        ("p_cbm", "done"): 3,
        ("salf_cbm", "done"): 2 * 3 + 1,
    }
    kinds = Counter(stage["kind"] for stage in shell.sql("SELECT kind FROM stage"))
    assert {kind: count for kind, count in kinds.items() if count > 1} == {
        "clip_places": 2,
        "concept_layer": 1 + 2,
        "sparse_path": 1 + 1 + 2,
    }
    places = shell.sql("SELECT model_inputs FROM stage WHERE kind = 'clip_places'")
    assert sorted(row["model_inputs"] for row in places) == [1010 * 9, 1010 * 25]

    rows = shell.sql(
        "SELECT t.method, m.name, avg(m.value) AS value FROM metric m JOIN trial t ON t.id = m.trial_id"
        " LEFT JOIN trial_param p ON p.trial_id = t.id AND p.name = 'grid_size'"
        " WHERE m.name LIKE 'pointing%' AND m.group_name = 'all' AND coalesce(p.number, 5) = 5"
        " GROUP BY t.method, m.name"
    )
    found = {(row["method"], row["name"]): row["value"] for row in rows}
    for name in ("pointing_accuracy", "pointing_accuracy_15px"):
        assert found["salf_cbm", name] > 3 * found["salf_cbm", f"{name}_chance"]
        assert found["salf_cbm", name] > found["lf_cbm", name]
    gaps = shell.sql("SELECT value FROM metric WHERE name = 'gap'")
    assert gaps
    assert all(0 <= row["value"] <= 1e-4 for row in gaps)
