"""Every record that a spec or a card can hold refuses a key that it does not have, wherever it stands."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from components.data.card import Card
from components.method import Method
from grid.names import component_class, names
from grid.spec.build import build
from grid.spec.drawings import GENERATORS
from grid.spec.spec import Spec, SpecError, parse_spec

TYPO = "no_such_knob"
ROOTS = {
    f"{folder}.{name}": component_class(folder, name)
    for folder in (Method.FOLDER, GENERATORS)
    for name in names(folder)
}


def parts(hint: Any) -> Iterator[Any]:
    """A hint and all that it is made of."""
    yield hint
    for part in typing.get_args(hint):
        yield from parts(part)


def fields(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Name and hint of every knob."""
    hints = typing.get_type_hints(cls)
    yield from ((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def kinds(record: type[Any]) -> list[type[Any]]:
    """What can stand where a hint names this record: itself, or all components of its folder."""
    folder = getattr(record, "FOLDER", None)
    return [component_class(folder, name) for name in names(folder)] if folder else [record]


def places() -> Iterator[tuple[type[Any], str, Any, type[Any]]]:
    """(holder, its field, the field's hint, record) of every record below the methods and generators."""
    seen, found = set(ROOTS.values()), list(ROOTS.values())
    for holder in found:
        for name, hint in fields(holder):
            for record in (part for part in parts(hint) if dataclasses.is_dataclass(part)):
                for kind in kinds(record):  # type: ignore[arg-type]
                    yield holder, name, hint, kind
                    if kind not in seen:
                        seen.add(kind)
                        found.append(kind)


def called(cls: type[Any]) -> str:
    return cls.__module__.rpartition(".")[2]


PLACES = {
    f"{called(holder)}.{name}: {called(kind)}": (holder, name, hint, kind)
    for holder, name, hint, kind in places()
}


def misspelt(kind: type[Any]) -> tuple[str, str]:
    """A knob of the record, and a misspelling of it; any key where it has none."""
    known = [name for name, _ in fields(kind)]
    return (known[0], f"{known[0]}x") if known else ("", TYPO)


@pytest.mark.parametrize("root", ROOTS)
def test_a_method_and_a_generator(root: str) -> None:
    right, wrong = misspelt(ROOTS[root])
    with pytest.raises(
        SpecError, match=rf"here: unknown key of {called(ROOTS[root])} '{wrong}'; did you mean '{right}'"
    ):
        build(ROOTS[root], {wrong: 1}, "here")


@pytest.mark.parametrize("place", PLACES)
def test_a_record_in_a_record(place: str) -> None:
    holder, name, hint, kind = PLACES[place]
    right, wrong = misspelt(kind)
    given: Any = {"name": called(kind), wrong: 1}
    if typing.get_origin(hint) in (tuple, list):
        given = [given]
    with pytest.raises(SpecError) as caught:
        build(holder, {name: given}, "here")
    line = str(caught.value)
    assert line.startswith(f"here.{name}")
    assert f"unknown key of {called(kind)} '{wrong}'" in line
    assert not right or f"did you mean '{right}'" in line


def test_there_are_such_places() -> None:
    """Or the test above would say nothing: some that must be among them."""
    assert {
        "standard.recipe: recipe",
        "seg_mil_cbm.segmenter: felzenszwalb",
        "seg_mil_cbm.clip: clip",
    } <= set(PLACES)
    assert {
        "grounded_sam.detector: grounding_dino",
        "corrupted.source: toybirds",
        "eac.surrogate: surrogate",
    } <= set(PLACES)


@pytest.mark.parametrize("place", [p for p in PLACES if getattr(PLACES[p][3], "FOLDER", None) is None])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_name_where_there_is_nothing_to_choose(place: str, as_text: bool) -> None:
    """It was dropped, and the record had its defaults."""
    holder, name, *_ = PLACES[place]
    with pytest.raises(SpecError, match=rf"here\.{name}.* = 'ViT-L-14/openai'"):
        build(holder, {name: "ViT-L-14/openai" if as_text else {"name": "ViT-L-14/openai"}}, "here")


def test_any_depth() -> None:
    segmenter = {"name": "grounded_sam", "detector": {"name": "grounding_dino", "chekpoint": "x"}}
    with pytest.raises(
        SpecError, match=r"methods\.0\.segmenter\.detector: .*'chekpoint'; did you mean 'checkpoint'"
    ):
        build(component_class(Method.FOLDER, "seg_mil_cbm"), {"segmenter": segmenter}, "methods.0")


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


@pytest.mark.parametrize("model", {m.__name__: m for root in (Spec, Card) for m in models(root)}.values())
def test_what_is_no_component(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({TYPO: 1})
    assert (TYPO,) in [error["loc"] for error in caught.value.errors() if error["type"] == "extra_forbidden"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"serch": {}}, "'serch'; did you mean 'search'"),
        ({"search": {"trails": 3}}, "'search.trails'; did you mean 'search.trials'"),
        (
            {"datasets": [{"name": "toybirds", "rot": "/"}]},
            "'datasets.0.rot'; did you mean 'datasets.0.root'",
        ),
        (
            {"resources": {"stages": {"default": {"num_gpu": 1}}}},
            "did you mean 'resources.stages.default.num_gpus'",
        ),
        (
            {"resources": {"methods": {"standard": {"num_cpu": 1}}}},
            "did you mean 'resources.methods.standard.num_cpus'",
        ),
        (
            {"resources": {"stages": {"default": {"replicas": {"mx": 1}}}}},
            "'resources.stages.default.replicas.mx'; did you mean 'resources.stages.default.replicas.max'",
        ),
    ],
)
def test_a_spec_names_the_closest(content: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(
            {"name": "t", "datasets": ["toybirds"], "methods": [{"method": "standard"}]} | content, "t.yaml"
        )
    assert says in str(caught.value)
