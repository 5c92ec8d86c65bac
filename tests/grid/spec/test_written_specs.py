"""Specs as people write them: one meaning, or one line before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid.spec.block import parse_block
from grid.spec.space import Range
from grid.spec.spec import SpecError, load_spec, parse_spec

GOOD = "name: t\ndatasets: [toybirds]\nmethods:\n  - method: standard\n"
SHARED = """\
name: t
datasets: [toybirds]
methods:
  - &base {method: seg_mil_cbm, recipe: &recipe {epochs: 3}, k_top: [3]}
  - {<<: *base, k_top: [5]}
  - *base
  - {method: standard, recipe: *recipe}
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """The spec of a text or bytes, with overrides."""

    def of(content: str | bytes, *overrides: str) -> Any:
        path = tmp_path / "t.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_spec(path, overrides)

    return of


def test_an_override_touches_its_own_place(load: Callable[..., Any]) -> None:
    methods = load(SHARED, "methods.0.recipe.epochs=9", "methods.2.k_top.0=7").methods
    assert [method["recipe"] for method in methods] == [{"epochs": 9}, *[{"epochs": 3}] * 3]
    assert [method.get("k_top") for method in methods] == [[3], [5], [7], None]


@pytest.mark.parametrize(
    "place", ["methods.-1.k_top=3", "seeds.-1=3", "seeds.٣=3", "methods.0.recipe=a: 1: 2"]
)
def test_an_override_of_no_place(load: Callable[..., Any], place: str) -> None:
    """A place from the end was taken, so that another method than one thinks was changed."""
    with pytest.raises(SpecError, match=r"^--set '") as caught:
        load(GOOD + "seeds: [0, 1]\n", place)
    assert "\n" not in str(caught.value)


def test_an_override_with_a_key_twice(load: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match="'trials' stands twice"):
        load(GOOD, "search={kind: random, trials: 2, trials: 3}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + "seeds: [0]\nquestion: x\nseeds: [1, 2]\n", "t.yaml: key 'seeds' stands twice, in lines 5 and 7"),
        (GOOD.encode("utf-16"), "t.yaml, line 1: byte 0xff is no UTF-8 text; save the file as UTF-8"),
        ((GOOD + "question: Vögel\n").encode("latin-1"), "t.yaml, line 5: byte 0xf6 is no UTF-8 text"),
        (GOOD + "question: \0\n", "t.yaml, line 5: byte 0x00 is no UTF-8 text"),
        ("", "t.yaml: a spec is a mapping"),
        ("# nothing but this\n", "t.yaml: a spec is a mapping"),
        (GOOD + "1: 2\n", "t.yaml, line 5: the key '1' is not text; quote it"),
        (GOOD + "seeds: [9223372036854775808]\n", "t.yaml: seeds.0 = 9223372036854775808"),
        (GOOD + f"seeds: [{'9' * 5000}]\n", "t.yaml: not YAML"),
        (GOOD + "seeds: [.inf]\n", "t.yaml: seeds.0 = inf"),
        (GOOD + "seeds: [yes]\n", "t.yaml: seeds = \\[True\\]: true and false have no meaning here"),
        (GOOD + "max_failed_fraction: .nan\n", "t.yaml: max_failed_fraction = nan"),
        (GOOD + "max_failed_fraction: yes\n", "t.yaml: max_failed_fraction = True"),
        (GOOD + "resources: {stages: {default: {num_cpus: .inf}}}\n", "resources.stages.default.num_cpus = inf"),
        (GOOD + "search: {kind: random, trials: on}\n", "t.yaml: search.trials = True"),
        (GOOD + "search: {kind: random, trials: 2, seed: 4294967296}\n", "search.seed = 4294967296"),
        (GOOD + "search: {kind: random, trials: 2, seed: -1}\n", "search.seed = -1"),
        (GOOD.replace("[toybirds]", "[toybirds, {name: toybirds}]"), "datasets has a name twice: 'toybirds'"),
    ],
)  # fmt: skip
def test_one_line_with_file_and_place(load: Callable[..., Any], content: str | bytes, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load(content)
    assert "\n" not in str(caught.value)


def test_the_largest_seeds_there_are(load: Callable[..., Any]) -> None:
    spec = load(
        GOOD + "seeds: [9223372036854775807, 0]\nsearch: {kind: random, trials: 2, seed: 4294967295}\n"
    )
    assert (spec.seeds, spec.search.seed) == ([2**63 - 1, 0], 2**32 - 1)


def space(text: str, tmp_path: Path) -> Any:
    path = tmp_path / "s.yaml"
    path.write_text(f"name: t\ndatasets: [toybirds]\nmethods: [{text}]\n")
    return parse_block(load_spec(path).methods[0], 0)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    found = space("{method: seg_mil_cbm, lambda_concept: {low: 1e-3, high: 1e0, log: true}}", tmp_path)
    assert [axis.node for axis in found.axes] == [Range(0.001, 1.0, log=True, integer=False)]
    for written in ("1e-3", "0.001", "'1e-3'"):
        found = space(f"{{method: seg_mil_cbm, lambda_concept: [{written}]}}", tmp_path)
        assert [one.method.lambda_concept for one in found.grid()] == [0.001]


def test_a_range_of_a_number_that_may_be_null_is_of_whole_numbers(tmp_path: Path) -> None:
    """It drew 3.7 masks."""
    (axis,) = space("{method: eac, max_masks: {low: 3, high: 9}}", tmp_path).axes
    assert axis.node.integer


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ("k_top: yes", "methods.0.k_top = True: true and false have no meaning here"),
        ("k_top: [5, on]", "methods.0.k_top = True"),
        ("recipe: {epochs: true}", "methods.0.recipe.epochs = True"),
        ("outside: no", "methods.0.outside = False"),
        ("lambda_concept: .inf", "methods.0.lambda_concept = inf: expected a finite number"),
        ("lambda_concept: 1e999", "methods.0.lambda_concept = inf: expected a finite number"),
        ("lambda_concept: 'inf'", "methods.0.lambda_concept = 'inf': expected a number"),
        ("lambda_concept: '0.5'", "methods.0.lambda_concept = '0.5': expected a number"),
        ("recipe: {epochs: '3'}", "methods.0.recipe.epochs = '3': expected a number"),
        ("lambda_concept: .nan", "methods.0.lambda_concept = nan"),
        ("recipe: {learning_rate: .inf}", "methods.0.recipe.learning_rate = inf"),
        ("k_top: 9223372036854775808", "methods.0.k_top = 9223372036854775808: .* 64 bits"),
        ("lambda_concept: {low: 0.1, high: .inf}", "methods.0.lambda_concept = .*two finite numbers"),
        ("lambda_concept: {low: .nan, high: 1}", "methods.0.lambda_concept = .*two finite numbers"),
        ("lambda_concept: {low: no, high: 1}", "methods.0.lambda_concept = .*two finite numbers"),
        ("lambda_concept: {low: '0.1', high: 1}", "methods.0.lambda_concept = .*two finite numbers"),
        ("lambda_concept: {low: 0.1, high: 1, log: 'false'}", "methods.0.lambda_concept = .*`log: true`"),
        ("k_top: {low: 3, high: 1e30}", "methods.0.k_top = .*two finite numbers"),
    ],
)
def test_a_knob_that_no_trial_can_have(knobs: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=says):
        space(f"{{method: seg_mil_cbm, {knobs}}}", tmp_path)


def test_numbers_in_lists(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"methods\.0\.lambdas = inf"):
        space("{method: lf_cbm, lambdas: [[0.1, .inf]]}", tmp_path)


def test_truth_values_where_they_belong(tmp_path: Path) -> None:
    for text, value in (("true", True), ("no", False)):
        found = space(f"{{method: salf_cbm, unit_maps: {text}}}", tmp_path)
        assert [one.method.unit_maps for one in found.grid()] == [value]
    for text in ("maybe", "'no'", "1"):
        with pytest.raises(SpecError, match=r"methods\.0\.unit_maps = .*: expected true or false"):
            space(f"{{method: salf_cbm, unit_maps: {text}}}", tmp_path)


def test_a_spec_in_memory_is_held_to_the_same() -> None:
    with pytest.raises(SpecError, match="seeds has a value twice: 1"):
        parse_spec(
            {"name": "t", "datasets": ["toybirds"], "methods": [{"method": "standard"}], "seeds": [1, 1.0]},
            "m",
        )
