"""EAC on birds that are drawn: their own masks, halves of them and the ground."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from components.card import load_card
from components.methods.eac import Eac
from components.models.backbones.small_cnn import SmallCnn
from components.models.segmenters.ground_truth import GroundTruth
from components.readers.waterbirds_csv import WaterbirdsCsv
from components.recipe import Recipe
from components.surrogate import Surrogate
from tests.world import draw_waterbirds, run_stages

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
METHOD = Eac(
    backbone=SmallCnn(width=8),
    recipe=Recipe(epochs=40, learning_rate=1e-2),
    segmenter=GroundTruth(),
    n_coalitions=60,
    surrogate=Surrogate(optimiser="adam", learning_rate=0.02),
    n_samples=256,
)
OBJECT, GROUND = 0, 3  # positions among the ground-truth segments


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eac")
    index = WaterbirdsCsv().read(draw_waterbirds(folder / "data", per_group=4), CARD)
    data = run_stages(METHOD.stages(CARD, 0), CARD, index, folder)
    return data, METHOD.fit(data, 0, lambda step, **metrics: None)


def test_the_bird_decides_and_comes_before_the_ground(explained):
    data, _ = explained
    rows = data["ranking"].read(data.usable_split("test").ids, ["masks", "values"]).to_pylist()
    assert len(rows) == 16
    assert all(row["masks"] == [0, 1, 2, 3] for row in rows)
    values = np.array([row["values"] for row in rows])
    assert (values[:, OBJECT] > values[:, GROUND]).mean() > 0.5


@pytest.mark.parametrize(
    ("knobs", "count"),
    [
        ({}, 1),
        ({"explanation": "top_k", "top_k": 2}, 2),
        ({"explanation": "above_share", "share": 1e-9}, None),
    ],
)
def test_an_explanation_is_the_masks_with_the_largest_values(explained, knobs, count):
    data, fitted = explained
    one = data["ranking"].ids[:1]
    (row,) = data["ranking"].read(one, ["masks", "values"]).to_pylist()
    values = np.sort(row["values"])[::-1]
    count = count or max(1, int((values > 0).sum()))
    (explanation,) = replace(METHOD, **knobs).explain(fitted, data, one.tolist())
    np.testing.assert_allclose(explanation.weights, values[:count], atol=1e-6)
    assert explanation.masks.shape == (count, SIDE, SIDE)
    assert len(explanation.captions) == count


def test_explanations_are_judged(explained):
    data, fitted = explained
    metrics = {metric.name: metric.value for metric in METHOD.evaluate(fitted, data)}
    assert metrics["n_images"] == 16
    assert np.isfinite(metrics["insertion_auc_eac_official"])


def test_knobs_that_do_not_go_together_are_refused_when_planning():
    with pytest.raises(ValidationError, match="must be kernel"):
        TypeAdapter(Eac).validate_python({"surrogate": None})
    with pytest.raises(ValidationError, match="value must be shapley"):
        TypeAdapter(Eac).validate_python({"estimator": "permutation"})
    Eac(surrogate=None, estimator="kernel")


def test_value_and_estimator_share_the_coalitions():
    """A sweep over what masks count for costs no forward pass."""
    shapley = replace(METHOD, value="shapley", estimator="shared", explanation="top_k")
    assert METHOD.ranking(CARD, 0).coalitions == shapley.ranking(CARD, 0).coalitions
    assert METHOD.ranking(CARD, 0) != shapley.ranking(CARD, 0)
    whole = replace(METHOD, surrogate=Surrogate(loss="all_classes")).ranking(CARD, 0)
    assert whole.coalitions.all_classes
