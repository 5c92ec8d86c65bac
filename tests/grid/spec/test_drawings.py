"""Data sets that a spec has drawn in several ways."""

from pathlib import Path
from typing import Any

import pytest

from components.data.card import load_card
from grid.inputs.datasets import locate, sources
from grid.spec.candidates import configurations_of
from grid.spec.drawings import drawings
from grid.spec.spec import Spec, SpecError, parse_spec


def spec(*datasets: Any, **content: Any) -> Spec:
    return parse_spec(
        {"name": "t", "datasets": list(datasets), "methods": [{"method": "standard"}], **content}, "t"
    )


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTGRID_HOME", str(tmp_path))
    monkeypatch.delenv("CONCEPTGRID_DATA", raising=False)


def test_each_combination_of_a_generators_choices_is_a_data_set() -> None:
    swept = {"name": "toybirds", "generator": {"seed": [0, 1], "n_train": 80, "correlation": [0.5, 0.95]}}
    found = sources(spec("waterpets", swept))
    assert [(one.label, one.generator.seed, one.generator.correlation) for one in found[1:]] == [
        ("toybirds (correlation=0.5, seed=0)", 0, 0.5),
        ("toybirds (correlation=0.95, seed=0)", 0, 0.95),
        ("toybirds (correlation=0.5, seed=1)", 1, 0.5),
        ("toybirds (correlation=0.95, seed=1)", 1, 0.95),
    ]
    assert found[0].label == "waterpets"
    assert len({one.root for one in found}) == 5
    assert {one.generator.n_train for one in found[1:]} == {80}
    for one in found[1:]:
        alone = {"name": "toybirds", "generator": one.entry.generator}
        assert sources(spec(alone))[0].root == one.root, "it is drawn where it would be alone"
        assert sources(spec(alone))[0].label == "toybirds"


def test_a_list_of_records_couples_knobs_of_a_generator() -> None:
    swept = {"name": "toybirds", "generator": [{"seed": 1, "n_val": 40}, {"seed": 2, "n_val": 50}]}
    assert [one.label for one in sources(spec(swept))] == [
        "toybirds (n_val=40, seed=1)",
        "toybirds (n_val=50, seed=2)",
    ]


def test_a_knob_within_what_a_generator_reads_leaves_the_rest_as_the_card_has_it() -> None:
    card = load_card("toybirds_c")
    assert card.generator is not None
    found = sources(spec({"name": "toybirds_c", "generator": {"source": {"seed": [3, 4]}}}))
    assert [one.label for one in found] == ["toybirds_c (source.seed=3)", "toybirds_c (source.seed=4)"]
    assert {one.generator.source.n_test for one in found} == {card.generator["source"]["n_test"]} == {60}
    swept = {"name": "toybirds_c", "generator": {"severities": [[1], [1, 5]]}}
    assert [one.generator.severities for one in sources(spec(swept))] == [(1,), (1, 5)]


def test_trials_of_a_search_are_shared_out_over_all_drawings() -> None:
    swept = {"name": "toybirds", "generator": {"seed": [0, 1, 2]}}
    search = {"kind": "random", "trials": 24}
    assert configurations_of(spec(swept, "waterpets", seeds=[0, 1], search=search)) == 24 // (2 * 4)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"generator": {"correlation": {"low": 0.1, "high": 0.9}}},
            "datasets.0.generator.correlation: every value is another data set",
        ),
        (
            {"generator": {"seeds": [1, 2]}},
            "datasets.0.generator: unknown key of toybirds 'seeds'; did you mean",
        ),
        ({"generator": {"seed": [1, -1]}}, "datasets.0.generator.seed = -1"),
        ({"generator": {"seed": [1, 1.0]}}, r"datasets.0.generator: .* is given twice"),
        ({"generator": {"seed": []}}, "datasets.0.generator.seed is an empty list"),
        ({"generator": {"name": "corrupted"}}, "datasets.0.generator.name = .*leave it out"),
        ({"name": "waterpets", "generator": {"seed": [1]}}, "data set waterpets has no generator"),
    ],
)
def test_what_cannot_be_drawn(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        drawings(spec({"name": "toybirds", **entry}))


def test_how_data_were_drawn_is_known_of_what_was_drawn_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = drawings(spec({"name": "toybirds", "generator": {"seed": 5}, "images_per_split": 7}))
    drawn = locate(entry).drawing
    assert (drawn["generator"]["seed"], drawn["images_per_split"]) == (5, 7)
    monkeypatch.setenv("CONCEPTGRID_DATA", str(tmp_path / "given"))
    (tmp_path / "given" / "toybirds").mkdir(parents=True)
    (plain,) = sources(spec("toybirds"))
    assert plain.drawing == {}, "somebody put it there"
