"""The page on sweeps shows a spec, and what `plan --explain` says of it."""

import re
from pathlib import Path

import pytest

from components.data.fingerprint import FileHashes
from components.data.written import parse_yaml
from grid.inputs.datasets import read, sources
from grid.planning.knobs import explained
from grid.planning.plan import Plan, make_plan
from grid.progress import Display
from grid.results.throughput import Throughput
from grid.spec.spec import parse_spec
from tests.grid.planning.test_knobs import shown

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sweeps.md").read_text()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of the page's spec, in an empty home."""
    monkeypatch.setenv("CONCEPTGRID_HOME", str(tmp_path))
    monkeypatch.delenv("CONCEPTGRID_DATA", raising=False)
    found = re.search(r"```yaml\n(.+?)```", PAGE, re.S)
    assert found
    spec = parse_spec(parse_yaml(found[1], "the page"), "the page")
    hashes = FileHashes(tmp_path / "hashes.json")
    datasets = [read(source, hashes, Display()) for source in sources(spec)]
    return make_plan(spec, datasets, hashes, lambda key: False, lambda ids: {}, Throughput(), [])


def test_the_page_shows_what_the_command_says(plan: Plan) -> None:
    found = re.search(r"```\n(knob .+?)\n```", PAGE, re.S)
    assert found
    assert found[1].splitlines() == shown(explained(plan))


def test_the_pages_counts_are_those_of_the_spec(plan: Plan) -> None:
    standard, bags = (
        [t for t in plan.trials if t.method_name == name] for name in ("standard", "seg_mil_cbm")
    )
    assert len(plan.datasets) == 4
    assert len(standard) == 4 * 2 * (2 * 2)
    assert len(bags) == 4 * 2 * (2 * 3), "two variants of three segmenters"
