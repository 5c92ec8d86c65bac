"""A template that would make all concepts alike, or fail in its stage, is no knob."""

import dataclasses

import pytest
from pydantic import TypeAdapter, ValidationError

from components.method import Method
from components.models.clip.clip import Clip
from components.stages.clip_texts import ClipTexts
from grid.names import component_class, names

WRONG = [
    "a photo", "", "{concept}", "a {} of {concept}", "{} and {}", "{0}", "{1}", "{", "a {} }",
    "{{}}", "{:.1}", "{!r}", "{.real}", "{[0]}",
]  # fmt: skip
METHODS = [component_class(Method.FOLDER, name) for name in names(Method.FOLDER)]
WITH_TEMPLATE = [m for m in METHODS if "template" in {field.name for field in dataclasses.fields(m)}]


def test_methods_with_a_template_are_known() -> None:
    assert {"Cft", "LfCbm", "SalfCbm", "SegMilCbm"} <= {method.__name__ for method in WITH_TEMPLATE}


@pytest.mark.parametrize("template", WRONG)
@pytest.mark.parametrize("method", WITH_TEMPLATE, ids=lambda m: m.__name__)
def test_without_its_one_place_it_is_refused(method: type, template: str) -> None:
    with pytest.raises(ValidationError, match="where the concept goes"):
        TypeAdapter(method).validate_python({"template": template})


@pytest.mark.parametrize("template", ["{}", "a photo of {}", "{}.", "a {{small}} {}"])
@pytest.mark.parametrize("method", WITH_TEMPLATE, ids=lambda m: m.__name__)
def test_with_it_it_stays_as_it_is(method: type, template: str) -> None:
    assert TypeAdapter(method).validate_python({"template": template}).template == template


def test_the_templates_of_a_stage() -> None:
    knobs = {"clip": Clip(), "texts": ("wing",)}
    with pytest.raises(ValidationError, match="where the concept goes"):
        TypeAdapter(ClipTexts).validate_python({**knobs, "templates": ("{}", "a photo")})
