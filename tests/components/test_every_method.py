"""What holds of every method, whatever files there are."""

import dataclasses
import json
import subprocess
import sys
import typing

import annotated_types as at
import pytest
from pydantic import TypeAdapter, ValidationError

from components.data.card import load_card
from components.identity import component_name, configuration, digest
from components.method import Method
from components.models.networks.backbone import Backbone
from components.models.segmentation.segmenter import Segmenter
from components.models.training.recipe import Recipe
from components.stage import Stage, TensorStage
from grid.names import component_class, names

CARD = load_card("toybirds")
STEP = 1e-6


@pytest.fixture(params=names(Method.FOLDER))
def method(request):
    """One method with its default knobs."""
    return component_class(Method.FOLDER, request.param)()


def beyond(annotation):
    """A value just outside each bound of an annotated number, and one just inside or on it."""
    for bound in typing.get_args(annotation)[1:]:
        match bound:
            case at.Ge(low):
                yield low - 1, low
            case at.Gt(low):
                yield low, low + STEP
            case at.Le(high):
                yield high + 1, high
            case at.Lt(high):
                yield high, high - STEP


def test_it_is_a_frozen_dataclass_of_keyword_knobs(method):
    assert type(method).__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(method))
    assert type(type(method).VERSION) is int
    assert isinstance(method, Method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1


def test_every_number_among_its_knobs_is_bounded_and_bounds_refuse(method):
    adapter = TypeAdapter(type(method))
    hints = typing.get_type_hints(type(method), include_extras=True)
    for field in dataclasses.fields(method):
        value, annotation = getattr(method, field.name), hints[field.name]
        if type(value) not in (int, float):
            continue
        pairs = list(beyond(annotation))
        assert pairs, f"{field.name} has no bound"
        for outside, inside in pairs:
            with pytest.raises(ValidationError, match=field.name):
                adapter.validate_python({field.name: outside})
            assert getattr(adapter.validate_python({field.name: inside}), field.name) == inside
        with pytest.raises(ValidationError):
            adapter.validate_python({field.name: "many"})


def test_its_defaults_are_valid_and_have_an_identity(method):
    knobs = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    assert TypeAdapter(type(method)).validate_python(knobs) == method
    assert digest(configuration(method)) == digest(configuration(type(method)()))


def test_the_weights_that_it_starts_from_are_read_by_a_stage_or_named_as_its_own(method):
    """Else a trial's identity would hold their name and not their content."""
    knobs = {field.name for field in dataclasses.fields(method)}
    if "backbone" not in knobs:
        return
    backbone = dataclasses.replace(method.backbone, checkpoint="own.safetensors")
    for recipe in (None, Recipe(), Recipe(trainable="head")):
        if recipe is None and not takes_none(method, "recipe"):
            continue
        started = dataclasses.replace(method, backbone=backbone, recipe=recipe)
        named = [*started.stages(CARD, 0).values(), *started.models(CARD).values()]
        assert "own.safetensors" in json.dumps([configuration(one) for one in named]), recipe


def takes_none(method, knob):
    return type(None) in typing.get_args(typing.get_type_hints(type(method))[knob])


def test_its_stages_are_the_same_whenever_they_are_asked_for(method):
    first, second = method.stages(CARD, 3), method.stages(CARD, 3)
    assert first == second
    assert list(first) == list(second)
    for stage in first.values():
        assert isinstance(stage, Stage)
        assert component_name(stage) == stage.kind
        assert hash(stage) == hash(stage)
        assert digest(configuration(stage))


def test_only_what_is_trained_depends_on_the_seed(method):
    first, second = method.stages(CARD, 3), method.stages(CARD, 4)

    def trained(stage):
        own = isinstance(stage, TensorStage) and stage.READS_IMAGES
        return own or any(trained(read) for read in stage.inputs().values())

    for name, stage in first.items():
        assert trained(stage) or stage == second[name]


def test_planning_imports_no_torch():
    """Neither the methods, nor their stages, nor what cuts and encodes."""
    folders = [Method.FOLDER, *Stage.FOLDERS, Segmenter.FOLDER, Backbone.FOLDER]
    code = f"""
import sys
from grid.names import component_class, names
for folder in {folders}:
    for name in names(folder):
        component_class(folder, name)
from components.data.card import load_card
for name in names({Method.FOLDER!r}):
    component_class({Method.FOLDER!r}, name)().stages(load_card("toybirds"), 0)
print([name for name in ("torch", "torchvision", "timm", "open_clip", "ray") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
