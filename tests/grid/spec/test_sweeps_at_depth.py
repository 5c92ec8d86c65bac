"""Choices and ranges at every depth of a block, against a product over leaves written out here."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.card import load_card
from components.identity import canonical, configuration
from grid.spec.block import Block, parse_block
from grid.spec.candidates import candidates, changes_a_stage
from grid.spec.space import Drawn
from grid.spec.spec import Spec, SpecError, load_spec, parse_spec

CARD = load_card("toybirds")


def block(**knobs: Any) -> Block:
    return parse_block({"method": "seg_mil_cbm", **knobs}, 0)


def told(found: Block) -> list[dict[str, Any]]:
    return [configuration(one.method) for one in found.grid()]


def written_out(value: Any) -> Iterator[Any]:
    """Every plain value that a nest of mappings and lists of choices stands for, the last knob fastest."""
    if isinstance(value, list):
        for item in value:
            yield from written_out(item)
    elif isinstance(value, Mapping):
        for values in itertools.product(*[list(written_out(inner)) for inner in value.values()]):
            yield dict(zip(value, values, strict=True))
    else:
        yield value


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or a list of up to three that differ."""
    lists = st.lists(
        values,
        min_size=1,
        max_size=3,
        unique_by=lambda value: f"{value:.6}" if isinstance(value, float) else value,
    )
    return st.one_of(values, lists)


def record(**knobs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional={name: some(values) for name, values in knobs.items()})


felzenszwalb = record(scale=st.integers(50, 300), min_size=st.integers(10, 90))
slic = record(n_segments=st.integers(5, 50), compactness=st.floats(1, 50))
segmenters = st.one_of(
    st.sampled_from(["slic", "grid"]),
    felzenszwalb.map(lambda knobs: {"name": "felzenszwalb", **knobs}),
    st.tuples(slic, felzenszwalb).map(
        lambda both: [{"name": "slic", **both[0]}, "grid", {"name": "felzenszwalb", **both[1]}]
    ),
)
blocks = st.fixed_dictionaries(
    {},
    optional={
        "k_top": some(st.integers(1, 20)),
        "recipe": record(epochs=st.integers(1, 9), learning_rate=st.floats(1e-4, 1e-2)),
        "segmenter": segmenters,
        "target": some(st.sampled_from(["softmax", "zscore"])),
    },
)


@settings(max_examples=60, deadline=None)
@given(blocks)
def test_a_grid_is_the_product_over_its_leaves(knobs: dict[str, Any]) -> None:
    """In order, each once, and each as if it had been written out by hand."""
    found = block(**knobs)
    by_hand = list(written_out(knobs))
    if len(by_hand) > 60:
        return
    expected = [configuration(next(block(**one).grid()).method) for one in by_hand]
    assert told(found) == expected
    distinct = {repr(canonical(one)) for one in expected}
    spec = parse_spec(
        {"name": "t", "datasets": ["toybirds"], "methods": [{"method": "seg_mil_cbm", **knobs}]}, ""
    )
    assert len(candidates(spec, CARD).distinct) == len(distinct)


@settings(max_examples=40, deadline=None)
@given(blocks, st.integers(0, 2**32))
def test_every_configuration_is_found_again_in_its_block(knobs: dict[str, Any], seed: int) -> None:
    ranged = {
        **knobs,
        "lambda_concept": {"low": 0.01, "high": 1.0, "log": True},
        "recipe": {**knobs.get("recipe", {}), "hue": {"low": 0.0, "high": 0.4}},
    }
    found = block(**ranged)
    one = found.at(Drawn(np.random.default_rng(seed)))
    config = configuration(one.method)
    assert any(configuration(found.at(at).method) == config for at in found.located(config))
    other = {**config, "lambda_concept": 1.5}
    assert not list(found.located(other))


def test_a_list_of_names_gives_each_the_knobs_that_it_has() -> None:
    found = block(
        segmenter={"name": ["felzenszwalb", "slic"], "scale": [100, 200], "n_segments": [10, 20, 30]}
    )
    segmenters = [one["segmenter"] for one in told(found)]
    assert [(s["name"], s.get("scale"), s.get("n_segments")) for s in segmenters] == [
        ("felzenszwalb", 100, None),
        ("felzenszwalb", 200, None),
        *[("slic", None, n) for n in (10, 20, 30)],
    ]
    with pytest.raises(SpecError, match="unknown key of felzenszwalb 'cells'"):
        block(segmenter={"name": ["felzenszwalb", "slic"], "cells": 3})


def test_a_knob_that_is_a_list_takes_a_list_of_lists() -> None:
    phrases = {"name": "phrase_sam", "phrases": ["bird", "wing"]}
    assert [one["segmenter"]["phrases"] for one in told(block(segmenter=phrases))] == [["bird", "wing"]]
    swept = {**phrases, "phrases": [["bird"], ["bird", "wing"]]}
    assert [one["segmenter"]["phrases"] for one in told(block(segmenter=swept))] == [
        ["bird"],
        ["bird", "wing"],
    ]
    with pytest.raises(SpecError, match=r"segmenter\.phrases = .*a choice of it is a list of lists"):
        block(segmenter={**phrases, "phrases": [["bird"], "wing"]})


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"recipe": {"learning_rate": [1e-3, -1]}}, "methods.0.recipe.learning_rate = -1: .* greater than 0"),
        (
            {"recipe": {"epoch": [1, 2]}},
            "methods.0.recipe: unknown key of recipe 'epoch'; did you mean 'epochs'",
        ),
        ({"recipe": {"epochs": []}}, "methods.0.recipe.epochs is an empty list"),
        ({"recipe": {"epochs": [[1]]}}, r"methods.0.recipe.epochs = \[1\]: a list within a list"),
        (
            {"recipe": {"learning_rate": {"low": 1, "high": 0}}},
            "methods.0.recipe.learning_rate = .* low < high",
        ),
        ({"segmenter": ["slic", {"name": "slik"}]}, "methods.0.segmenter: unknown segmenter 'slik'; did you"),
        ({"segmenter": {"name": ["slic", "nothing"]}}, "methods.0.segmenter: unknown segmenter 'nothing'"),
        ({"segmenter": {"name": []}}, "methods.0.segmenter.name is an empty list"),
        ({"segmenter": {"scale": [1]}}, "methods.0.segmenter.name is missing"),
        (
            {
                "segmenter": {
                    "name": "grounded_sam",
                    "detector": {"name": "grounding_dino", "shortest": [1, 2]},
                }
            },
            "methods.0.segmenter.detector: unknown key of grounding_dino 'shortest'",
        ),
    ],
)
def test_an_error_names_the_whole_place(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        block(**knobs)
    assert "\n" not in str(error.value)


def test_which_nested_knobs_change_a_stage_is_known() -> None:
    found = block(
        segmenter=[{"name": "felzenszwalb", "scale": [100, 200]}, "ground_truth"],
        recipe={"epochs": [3, 4]},
        merge=["keep", "union"],
        tau_iou=[0.3, 0.5],
        lambda_concept=[0.1, 0.2],
        k_top=[5, 6],
    )
    changing = {axis.knob for axis in found.axes if changes_a_stage(found, axis, CARD)}
    assert changing == {"segmenter", "segmenter.scale", "recipe.epochs", "merge", "tau_iou"}, (
        "tau_iou changes a stage where masks are united alone"
    )


@pytest.mark.parametrize(
    "knobs",
    [
        {"recipe": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}},
        {"segmenter": ["grid", {"name": "felzenszwalb", "scale": {"low": 50, "high": 90}}]},
        {"merge": ["keep", "union"], "tau_iou": {"low": 0.2, "high": 0.8}},
    ],
)
def test_a_range_below_that_changes_a_stage_is_refused(knobs: dict[str, Any]) -> None:
    spec = parse_spec(
        {
            "name": "t",
            "datasets": ["toybirds"],
            "methods": [{"method": "seg_mil_cbm", **knobs}],
            "search": {"kind": "random", "trials": 4},
        },
        "t.yaml",
    )
    with pytest.raises(SpecError, match=r"methods\.0\.\w+(\.\w+)? changes a stage: give a finite list"):
        candidates(spec, CARD)


def test_variants_come_one_after_the_other() -> None:
    found = block(
        target=["softmax", "zscore"],
        recipe={"epochs": 3, "learning_rate": 0.01},
        segmenter={"name": "slic", "n_segments": 9},
        variants={
            "paper": {"bag_size": 15, "recipe": {"epochs": 7}},
            "small": {"bag_size": [3, 4], "segmenter": {"name": "felzenszwalb", "scale": 50}},
        },
    )
    rows = [
        (one.variant, one.method.bag_size, one.method.target, c["recipe"]["epochs"], c["recipe"]["learning_rate"],
         c["segmenter"]["name"])
        for one in found.grid() for c in [configuration(one.method)]
    ]  # fmt: skip
    assert rows == [
        ("paper", 15, "softmax", 7, 0.01, "slic"),
        ("paper", 15, "zscore", 7, 0.01, "slic"),
        *[
            ("small", size, target, 3, 0.01, "felzenszwalb")
            for target in ("softmax", "zscore")
            for size in (3, 4)
        ],
    ]
    assert found.coupled == ("bag_size", "recipe.epochs", "segmenter")
    for one in found.grid():
        assert any(found.at(at) == one for at in found.located(configuration(one.method)))


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"a": {"bag_size": 3}, "b": {"bag_size": 3.0}}, "methods.0.variants: b and a are the same value"),
        (
            {"a": {"bag_sizes": 3}},
            "methods.0.variants.a: unknown key of seg_mil_cbm 'bag_sizes'; did you mean",
        ),
        ({"a": {"bag_size": 0}}, "methods.0.variants.a.bag_size = 0"),
        ({"a": 3}, "methods.0.variants.a = 3: expected a mapping"),
        ({}, "methods.0.variants = {}: expected names"),
        ({"a": {"method": "standard"}}, "methods.0.variants.a.method: a variant sets knobs"),
    ],
)
def test_what_is_no_variant(variants: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        block(variants=variants)


def test_a_search_plans_every_combination_that_has_stages_of_its_own_and_no_more() -> None:
    knobs: dict[str, Any] = {
        "segmenter": [{"name": "felzenszwalb", "scale": [100, 200]}, "ground_truth"],
        "merge": ["keep", "union"],
        "tau_iou": [0.3, 0.5],
        "lambda_concept": [0.1, 0.2, 0.3],
        "k_top": [5, 6],
    }
    content = {"name": "t", "datasets": ["toybirds"], "methods": [{"method": "seg_mil_cbm", **knobs}]}
    searched = parse_spec({**content, "search": {"kind": "optuna", "trials": 4}}, "t.yaml")

    def stages(spec: Spec) -> list[str]:
        return [repr(one.method.stages(CARD, 0)) for one in candidates(spec, CARD).distinct]

    every = stages(parse_spec(content, "t.yaml"))
    assert len(every) == 3 * 2 * 2 * 3 * 2
    planned = stages(searched)
    assert set(planned) == set(every)
    assert len(planned) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("knob", "values", "said"),
    [
        ("lambda_concept", [1, 0.3, 1.0], "lambda_concept: 1.0 and 1 are"),
        ("lambda_concept", [0.3, 0.1 + 0.2], "lambda_concept: 0.30000000000000004 and 0.3 are"),
        ("segmenter", ["slic", {"name": "slic", "n_segments": 25}], "segmenter: .* are"),
        ("recipe", {"epochs": [3, 4, 3]}, "methods.0.recipe.epochs: 3 and 3 are"),
    ],
)
def test_a_choice_that_is_given_twice_is_said(knob: str, values: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said + " the same value, given twice"):
        block(**{knob: values})


def test_the_same_configuration_in_two_blocks_is_one() -> None:
    blocks = [{"method": "seg_mil_cbm", "lambda_concept": values} for values in ([0.1, 0.3], [0.3, 0.5])]
    spec = parse_spec({"name": "t", "datasets": ["toybirds"], "methods": blocks}, "t.yaml")
    assert len(candidates(spec, CARD).distinct) == 3


values = st.one_of(
    st.integers(1, 9),
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    st.fixed_dictionaries({"low": st.floats(0.1, 1), "high": st.floats(2, 3), "log": st.booleans()}),
)
places = st.sampled_from(
    [
        ("methods", 0, "recipe", "learning_rate"),
        ("methods", 0, "segmenter", 1, "scale"),
        ("methods", 0, "variants", "small", "bag_size"),
        ("methods", 1, "clip", "checkpoint"),
        ("datasets", 0, "generator", "correlation"),
        ("search", "scheduler", "grace"),
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places, values)
def test_set_on_a_nested_place_equals_writing_it(
    tmp_path: Path, place: tuple[str | int, ...], value: Any
) -> None:
    content: dict[str, Any] = {
        "name": "t",
        "datasets": [{"name": "toybirds"}],
        "methods": [
            {
                "method": "seg_mil_cbm",
                "segmenter": ["slic", {"name": "felzenszwalb"}],
                "variants": {"small": {}},
            },
            {"method": "p_cbm"},
        ],
        "search": {"kind": "grid", "scheduler": {"kind": "asha"}},
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(content))
    key = ".".join(map(str, place))
    if place[0] == "search":
        value = value if isinstance(value, int) else 4
    override = f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}"
    written: Any = content
    *parents, last = place
    for part in parents:
        written = written[part] if isinstance(part, int) else written.setdefault(part, {})
    written[last] = value
    assert load_spec(path, (override,)) == parse_spec(content, "")
