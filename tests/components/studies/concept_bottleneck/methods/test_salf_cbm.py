"""SALF-CBM on planted concepts and from drawn images."""

from dataclasses import replace

import numpy as np
import pytest

from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.backbones.timm import Timm
from components.models.training.recipe import Recipe
from components.studies.concept_bottleneck.concept_bottleneck import final_layer
from components.studies.concept_bottleneck.methods.lf_cbm import LfCbm
from components.studies.concept_bottleneck.methods.salf_cbm import SalfCbm
from tests.planted_concepts import CARD, PLANTED, QUADRANTS, G, plant, silent
from tests.world import draw_waterbirds, run_stages

SEED = 5
METHOD = SalfCbm(
    grid_size=G,
    interpretability_cutoff=0.11,
    learning_rate=1e-2,
    steps=400,
    path_length=8,
    path_ratio=0.01,
    lambdas=(0.02, 0.005),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def data(planted):
    return planted.run(METHOD, "maps", "places")


@pytest.fixture(scope="module")
def fitted(data):
    return METHOD.fit(data, SEED, silent)


def accuracy(method, planted):
    data = planted.run(method, "maps", "places")
    metrics = method.evaluate(method.fit(data, SEED, silent), data)
    (value,) = (
        m.value for m in metrics if (m.name, m.split, m.selection) == ("average_accuracy", "test", "last")
    )
    return value


@pytest.mark.parametrize("pool", ["mean", "softmax", "max", "topk"])
@pytest.mark.parametrize("final", ["sparse", "dense"])
def test_it_classifies_with_every_pooling(planted, pool, final):
    assert accuracy(replace(METHOD, pool=pool, final_layer=final), planted) > 0.75


@pytest.mark.parametrize(
    "knobs", [{"unit_maps": True}, {"pool_temperature": 0.3}, {"loss_axis": "image_space"}]
)
def test_its_ablations_classify_too(planted, knobs):
    assert accuracy(replace(METHOD, **knobs), planted) > 0.75


def test_concepts_that_are_nowhere_are_dropped(fitted):
    assert len(fitted.facts["concepts"]) == PLANTED
    assert not any(reason.startswith("clip") for reason in fitted.facts["dropped"].values())


def test_maps_and_head_make_the_logits(planted, data):
    """What explanations and interventions start from is the model itself."""
    ids = data.split("test").ids[:7]
    for knobs in (
        {},
        {"pool": "mean"},
        {"pool_temperature": 0.5},
        {"unit_maps": True},
        {"pool": "max"},
        {"pool": "topk", "pool_cells": 3},
    ):
        method = replace(METHOD, **knobs)
        own = planted.run(method, "maps", "places")
        fitted = method.fit(own, SEED, silent)
        maps = method.maps(fitted, own, ids)
        assert maps.shape == (7, len(fitted.facts["concepts"]), G, G)
        expected = method.predict(fitted, own, ids)
        np.testing.assert_allclose(method.head(fitted).logits(maps), expected, atol=1e-3)


def test_maps_are_the_layer_on_the_resized_features(data, fitted):
    ids = data.split("test").ids[[4, 1]]
    stored = data["features"].array("map", ids).reshape(2, -1, G, G).astype(np.float64)
    expected = np.einsum("ndhw,kd->nkhw", stored, fitted.tensors["concept_weight"])
    np.testing.assert_allclose(METHOD.maps(fitted, data, ids), expected, atol=1e-5)


def test_explained_heatmaps_lie_where_the_concepts_are(planted, data, fitted):
    """A concept that is present, and counts, is highest in its quadrant more often than elsewhere."""
    ids = data.split("test").ids
    present = planted.present[data.rows(ids)]
    quadrant = np.kron(QUADRANTS, np.ones((8, 8), int))
    shares = []
    for row, explanation in enumerate(METHOD.explain(fitted, data, ids)):
        assert explanation.masks.dtype == np.float32
        assert explanation.masks.shape == (len(explanation.weights), 32, 32)
        for heat, caption in zip(explanation.masks, explanation.captions, strict=True):
            concept = fitted.facts["concepts"].index(caption.removeprefix("NOT "))
            if present[row, concept]:
                above = heat > heat.mean()
                shares.append((above & (quadrant == concept)).sum() / above.sum())
    assert np.mean(shares) > 0.5, "a quarter by chance"


@pytest.mark.parametrize("kind", ["cell", "stride"])
def test_heatmaps_are_the_maps_up_sampled_from_the_circles(data, fitted, kind):
    ids = data.split("test").ids[:1]
    maps = METHOD.maps(fitted, data, ids)[0]
    (explanation,) = replace(METHOD, centres=kind).explain(fitted, data, ids)
    stride = 32 // (G + 1)
    middles = stride * np.arange(1, G + 1) if kind == "stride" else (np.arange(G) + 0.5) * 32 / G
    for heat, caption in zip(explanation.masks, explanation.captions, strict=True):
        concept = fitted.facts["concepts"].index(caption.removeprefix("NOT "))
        rows = np.array([np.interp(np.arange(32), middles, column) for column in maps[concept].T]).T
        expected = np.array([np.interp(np.arange(32), middles, row) for row in rows])
        np.testing.assert_allclose(heat, expected, atol=1e-5)


def test_a_centre_crop_shows_nothing_beside_the_crop():
    from components.pixels.heat import unframed

    heat = np.linspace(-1, 1, 100).reshape(10, 10)
    whole = unframed(heat, (20, 40), "center_crop")
    assert whole.shape == (20, 40)
    assert (whole[:, :10] == -1).all()
    assert (whole[:, 30:] == -1).all()
    assert whole[19, 29] == pytest.approx(1, abs=0.1)
    assert (np.diff(unframed(heat, (20, 40), "squash")[10]) >= 0).all()


def test_mean_pooling_is_lf_cbms_function_class(planted, data):
    """At the backbone's own grid, pooled concepts are the layer on the mean of the map."""
    mean = replace(METHOD, pool="mean")
    fitted = mean.fit(planted.run(mean, "maps", "places"), SEED, silent)
    ids = data.split("test").ids
    pooled = data["features"].array("map", ids).reshape(len(ids), -1, G * G).astype(np.float64).mean(axis=2)
    concepts = (pooled @ fitted.tensors["concept_weight"].T - fitted.tensors["mean"]) / fitted.tensors["std"]
    expected = final_layer(fitted).logits(concepts)
    np.testing.assert_allclose(mean.predict(fitted, data, ids), expected, atol=1e-3)


def test_every_concept_dropped(planted):
    with pytest.raises(DataError, match="no concept is left"):
        planted.run(replace(METHOD, interpretability_cutoff=1.0), "maps", "places")


def test_what_sweeps_share():
    """A second vocabulary costs no pass over images; neither pooling nor the final layer a concept layer; a
    second grid no pass of the backbone."""
    first = SalfCbm().stages(CARD, 0)
    words = replace(SalfCbm(), template="a photo of {}").stages(CARD, 0)
    assert words["concept_layer"].targets == first["concept_layer"].targets
    assert words["features"] == first["features"]
    for knobs in (
        {"pool": "mean"},
        {"pool_temperature": 2.0},
        {"interpretability_cutoff": 0.3},
        {"alpha": 0.5},
    ):
        other = replace(SalfCbm(), **knobs).stages(CARD, 0)
        assert other["concept_layer"] == first["concept_layer"]
        assert other["path"] != first["path"]
    for knobs in ({"lambda_sparse": "nec"}, {"lambda_sparse": 1e-3}, {"nec": 3}):
        assert replace(SalfCbm(), **knobs).stages(CARD, 0) == first
    grid = replace(SalfCbm(), grid_size=5, radius=27).stages(CARD, 0)
    assert grid["features"] == first["features"]
    assert grid["concept_layer"].targets != first["concept_layer"].targets
    assert LfCbm().stages(CARD, 0)["concept_layer"].texts == first["concept_layer"].texts


@pytest.mark.parametrize(
    ("backbone", "knobs"),
    [
        (SmallCnn(width=4), {}),
        (SmallCnn(width=4), {"grid_size": 1, "final_layer": "dense"}),
        (SmallVit(), {"class_token": False}),
        (Timm(architecture="test_vit"), {"class_token": True}),
    ],
    ids=["cnn", "grid of 1", "vit", "vit with its class token"],
)
def test_from_drawn_images_through_all_its_stages(tiny_clip, tmp_path, backbone, knobs):
    """With a CLIP of random weights, so only that it runs and that failures are counted is asked."""
    method = SalfCbm(
        clip=Clip(checkpoint=str(tiny_clip)),
        backbone=backbone,
        recipe=Recipe(epochs=1, batch_size=8, learning_rate=1e-2),
        grid_size=3,
        path_length=3,
        lambdas=(0.01,),
        steps=50,
    )
    method = replace(method, **knobs)
    card = CARD.model_copy(update={"image_size": 48})
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=4), card)
    data = run_stages(method.stages(card, SEED), card, index, tmp_path / "columns")
    fitted = method.fit(data, SEED, silent)
    metrics = method.evaluate(fitted, data)
    assert all(np.isfinite(m.value) for m in metrics)
    ids = data.split("test").ids[:2]
    for explanation in method.explain(fitted, data, ids):
        assert explanation.masks.shape[1:] == (48, 48)
    assert method.maps(fitted, data, ids).shape == (2, 21, method.grid_size, method.grid_size)
