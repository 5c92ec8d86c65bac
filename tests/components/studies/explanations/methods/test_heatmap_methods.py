"""The methods whose ranking is a heatmap."""

import dataclasses

import pytest

from components.data.card import load_card
from components.identity import component_name
from components.method import Method
from components.studies.explanations.attribution import Attribution
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.stages.heatmaps import Heatmaps
from grid.names import component_class, names

CARD = load_card("toybirds")
OTHER = {
    "integrated_gradients": {"n_steps": 20, "reduction": "abs"},
    "lrp": {"composite": "epsilon_gamma_box", "reduction": "signed"},
    "lime": {"n_samples": 10, "hide_color": "black", "kernel_size": 2.0, "max_dist": 10.0, "ratio": 0.5},
}


@pytest.mark.parametrize("name", names(Attribution.FOLDER))
def test_every_attribution_is_a_method_with_the_same_knobs(name):
    method = component_class(Method.FOLDER, name)
    attribution = component_class(Attribution.FOLDER, name)
    own = {field.name for field in dataclasses.fields(method)}
    shared = {field.name for field in dataclasses.fields(AttributionMethod)}
    knobs = {field.name for field in dataclasses.fields(attribution)} - {"seed"}
    assert own - shared == knobs == set(OTHER.get(name, {}))
    seed = {"seed": 3} if name == "lime" else {}
    for values in ({}, OTHER.get(name, {})):
        ranking = method(**values).ranking(CARD, 3)
        assert isinstance(ranking, Heatmaps)
        assert component_name(ranking.attribution) == name
        assert ranking.attribution == attribution(**values, **seed)
        assert ranking.classifier.seed == 3
        assert ranking.image_size == CARD.image_size


def test_a_heatmap_without_chance_in_it_is_shared_by_trials_of_one_classifier():
    gradcam, lime = (component_class(Method.FOLDER, name)() for name in ("gradcam", "lime"))
    one, two = (dataclasses.replace(gradcam.ranking(CARD, seed), classifier=None) for seed in (0, 1))
    assert one == two
    assert lime.ranking(CARD, 0).attribution != lime.ranking(CARD, 1).attribution
