"""LF-CBM on planted concepts and from drawn images; with it, what all concept bottleneck models share."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from components.data.columns import Data
from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.studies.concept_bottleneck.concept_bottleneck import (
    BY_VALIDATION,
    LAMBDAS,
    final_layer,
)
from components.studies.concept_bottleneck.evidence import NO_CONCEPT
from components.studies.concept_bottleneck.final.final_layer import NEC_TARGETS
from components.studies.concept_bottleneck.methods.lf_cbm import LfCbm
from tests.planted_concepts import CARD, NAMES, PLANTED, plant, silent
from tests.world import draw_waterbirds, run_stages

SEED = 5
METHOD = LfCbm(
    clip_cutoff=-1,
    interpretability_cutoff=0.45,
    learning_rate=1e-2,
    path_length=8,
    path_ratio=0.01,
    lambdas=(0.02, 0.005),
)


def values(metrics):
    return {(m.name, m.split, m.group, m.selection): m.value for m in metrics}


def restricted(data, index=None, **changes):
    parts = {"columns": data._columns, "tensors": data._tensors, **changes}
    return Data(data.card, data.index if index is None else index, **parts)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def data(planted):
    return planted.run(METHOD, "pooled", "images")


@pytest.fixture(scope="module")
def fitted(data):
    return METHOD.fit(data, SEED, silent)


def test_it_classifies_by_the_concepts_that_decide(data, fitted):
    """Labels are noisy where concepts 0 and 1 are weak, so 1 is out of reach."""
    found = values(METHOD.evaluate(fitted, data))
    for selection in ("last", *BY_VALIDATION):
        assert found["average_accuracy", "test", "all", selection] > 0.8
    weights = np.abs(final_layer(fitted).weight).sum(axis=0)
    assert set(np.argsort(-weights)[:2]) == {0, 1}


def test_concepts_that_clip_sees_nowhere_are_dropped_with_the_reason(fitted):
    assert fitted.facts["concepts"] == list(NAMES[:PLANTED])
    assert list(fitted.facts["dropped"]) == list(NAMES[PLANTED:])
    assert all("interpretability_cutoff" in reason for reason in fitted.facts["dropped"].values())
    assert fitted.facts["concept_similarity"] > 0.3


def test_the_clip_cutoffs_reason(planted):
    method = replace(METHOD, clip_cutoff=0.155, interpretability_cutoff=-1)
    fitted = method.fit(planted.run(method, "pooled", "images"), SEED, silent)
    assert fitted.facts["concepts"][:PLANTED] == list(NAMES[:PLANTED])
    assert fitted.facts["dropped"]
    assert all("clip_cutoff: its five" in reason for reason in fitted.facts["dropped"].values())


def test_contributions_and_bias_are_the_logit(data, fitted):
    """docs/methods/concept_bottlenecks.md, eq. 23."""
    ids = data.split("test").ids
    layer = final_layer(fitted)
    pooled = data["features"].array("features", ids).astype(np.float64)
    concepts = (pooled @ fitted.tensors["concept_weight"].T - fitted.tensors["mean"]) / fitted.tensors["std"]
    logits = METHOD.predict(fitted, data, ids)
    for label in range(2):
        total = (layer.weight[label] * concepts).sum(axis=1) + layer.bias[label]
        np.testing.assert_allclose(logits[:, label], total, atol=1e-4)
    names = fitted.facts["concepts"]
    for row, said in enumerate(METHOD.contributions(fitted, data, ids)):
        terms = layer.weight[logits[row].argmax()] * concepts[row]
        largest = sorted(range(len(names)), key=lambda k: -abs(terms[k]))[:3]
        counted = [k for k in largest if abs(terms[k]) > 0.005]  # the least of LF-CBM's bars
        signs = ["" if concepts[row, k] >= 0 else "NOT " for k in counted]
        assert [what for what, _ in said] == [s + names[k] for s, k in zip(signs, counted, strict=True)]
        np.testing.assert_allclose([value for _, value in said], terms[counted], atol=1e-4)


def test_a_value_of_lambda_is_that_point_of_the_path(data):
    path = data.tensors("path")
    for value in METHOD.lambdas:
        fitted = replace(METHOD, lambda_sparse=value).fit(data, SEED, silent)
        row = path["lambda_sparse"].tolist().index(value)
        np.testing.assert_array_equal(fitted.tensors["last/weight"], path["weight"][row])
        assert fitted.facts["lambda_sparse"]["last"] == value
        assert fitted.facts["gap"]["last"] == path["gap"][row]
    assert set(METHOD.lambdas) <= set(path["lambda_sparse"].tolist())
    with pytest.raises(ValueError, match="not among lambdas"):
        replace(METHOD, lambda_sparse=0.3)


def test_validation_chooses_the_sparsest_of_the_best(data):
    steps = []
    fitted = METHOD.fit(data, SEED, lambda step, **metrics: steps.append(metrics))
    assert [s["lambda_sparse"] for s in steps] == data.tensors("path")["lambda_sparse"].tolist()
    for rule in BY_VALIDATION:
        found = [s[f"{rule}_accuracy"] for s in steps]
        best = next(s for s, value in zip(steps, found, strict=True) if value == max(found))
        assert fitted.facts["lambda_sparse"][rule] == best["lambda_sparse"]
        own = values(METHOD.evaluate(fitted, data))
        name = f"{rule.removeprefix('val_')}_accuracy"
        assert own[name, "val", "all", rule] == pytest.approx(max(found))
    np.testing.assert_array_equal(fitted.tensors["last/weight"], fitted.tensors["val_average/weight"])


@pytest.mark.parametrize("nec", [0.5, 1.0, 1.5])
def test_a_number_of_effective_concepts_is_met_exactly(data, nec):
    fitted = replace(METHOD, lambda_sparse="nec", nec=nec).fit(data, SEED, silent)
    weight = final_layer(fitted).weight
    assert np.count_nonzero(weight) == round(nec * len(weight))
    path = data.tensors("path")
    of = path["lambda_sparse"].tolist().index(fitted.facts["lambda_sparse"]["last"])
    assert set(np.unique(weight)) <= {0.0, *path["weight"][of].reshape(-1).tolist()}
    assert np.abs(weight[weight != 0]).min() >= np.abs(path["weight"][of][weight == 0]).max()


def test_more_effective_concepts_than_there_are_is_the_densest(data):
    fitted = replace(METHOD, lambda_sparse="nec", nec=50).fit(data, SEED, silent)
    np.testing.assert_array_equal(fitted.tensors["last/weight"], data.tensors("path")["weight"][-1])


def test_numbers_of_sparsity_and_certificate_are_reported(data, fitted):
    found = values(METHOD.evaluate(fitted, data))
    weight = final_layer(fitted).weight
    count = (np.abs(weight) > 1e-5).sum()
    assert found["nonzero_weights", "train", "all", "last"] == count
    assert found["nec", "train", "all", "last"] == count / 2
    assert found["n_concepts", "train", "all", "last"] == PLANTED
    assert 0 <= found["gap", "train", "all", "last"] < 1e-3
    for nec in NEC_TARGETS:
        assert 0 <= found["average_accuracy", "test", "all", f"nec_{nec}"] <= 1


def test_each_number_is_reported_once_and_the_original_protocol_is_labelled(planted, data, fitted):
    metrics = METHOD.evaluate(fitted, data)
    counts = Counter((m.name, m.split, m.group, m.selection) for m in metrics)
    assert set(counts.values()) == {1}
    leaking = replace(METHOD, protocol="lf_original")
    leaked = planted.run(leaking, "pooled", "images")
    labels = {m.selection for m in leaking.evaluate(leaking.fit(leaked, SEED, silent), leaked)}
    assert labels == {f"lf_original_{m.selection}" for m in metrics}


def test_a_dense_layer_has_no_path_and_keeps_the_accuracy(planted, data):
    dense = replace(METHOD, final_layer="dense", interpretability_cutoff=-1)
    assert set(dense.stages(CARD, 0)) == {"features", "concept_layer", "maps"}
    without_parts = CARD.model_copy(update={"part_masks": None})
    assert set(dense.stages(without_parts, 0)) == {"features", "concept_layer"}
    own = planted.run(dense, "pooled", "images")
    fitted = dense.fit(own, SEED, silent)
    found = values(dense.evaluate(fitted, own))
    assert found["average_accuracy", "test", "all", "last"] > 0.8
    assert found["nec", "train", "all", "last"] == len(NAMES)
    again = dense.fit(own, SEED, silent)
    np.testing.assert_array_equal(fitted.tensors["last/weight"], again.tensors["last/weight"])
    small = replace(dense, weight_decay=10.0).fit(own, SEED, silent)
    assert np.abs(small.tensors["last/weight"]).max() < 0.1 * np.abs(fitted.tensors["last/weight"]).max()


def test_labels_of_the_test_split_never_reach_the_fit(planted, data, fitted):
    index = planted.index
    test = index.splits == "test"
    turned = replace(planted, index=replace(index, labels=np.where(test, 1 - index.labels, index.labels)))
    blind = METHOD.fit(turned.run(METHOD, "pooled", "images"), SEED, silent)
    assert blind.tensors.keys() == fitted.tensors.keys()
    assert all(np.array_equal(fitted.tensors[name], blind.tensors[name]) for name in fitted.tensors)


@pytest.mark.filterwarnings("error")
def test_a_data_set_without_validation_images_gets_the_densest_layer(data):
    index = data.index
    without = restricted(data, index.rows(index.splits != "val"))
    fitted = METHOD.fit(without, SEED, silent)
    np.testing.assert_array_equal(fitted.tensors["last/weight"], data.tensors("path")["weight"][-1])
    found = values(METHOD.evaluate(fitted, without))
    assert np.isnan(found["average_accuracy", "val", "all", "last"])
    assert found["average_accuracy", "test", "all", "last"] > 0.8


def test_explanations_show_what_speaks_for_the_class(data, fitted):
    ids = data.split("test").ids[[3, 0, 11]]
    layer, logits = final_layer(fitted), METHOD.predict(fitted, data, ids)
    for row, explanation in enumerate(METHOD.explain(fitted, data, ids)):
        assert explanation.image_id == ids[row]
        assert explanation.masks.shape == (len(explanation.weights), 32, 32)
        assert explanation.masks.all()
        assert (np.diff(np.abs(explanation.weights)) <= 0).all()
        label = int(logits[row].argmax())
        assert explanation.title.startswith(CARD.classes[label])
        assert explanation.weights.sum() + layer.bias[label] == pytest.approx(logits[row, label], abs=0.03)
        for caption, weight in zip(explanation.captions, explanation.weights, strict=True):
            name = caption.removeprefix("NOT ").rsplit(" ", 1)[0]
            concept = fitted.facts["concepts"].index(name)
            negative = np.sign(weight) != np.sign(layer.weight[label, concept])
            assert caption.startswith("NOT ") == negative
    assert METHOD.explain(fitted, data, []) == []


def test_no_weight_at_all_is_a_constant_prediction_and_says_so(planted):
    method = replace(METHOD, lambdas=(1e3,), lambda_sparse=1e3)
    data = planted.run(method, "pooled", "images")
    fitted = method.fit(data, SEED, silent)
    assert (final_layer(fitted).weight == 0).all()
    found = values(method.evaluate(fitted, data))
    labels = data.split("test").labels
    prior = np.bincount(data.split("train").labels).argmax()
    assert found["average_accuracy", "test", "all", "last"] == pytest.approx((labels == prior).mean())
    assert found["nec", "train", "all", "last"] == 0
    (explanation,) = method.explain(fitted, data, data.split("test").ids[:1])
    assert explanation.captions == (NO_CONCEPT,)
    assert explanation.weights.tolist() == [0]


def test_no_concept_above_the_cutoff(planted):
    with pytest.raises(DataError, match="no concept is left"):
        planted.run(replace(METHOD, interpretability_cutoff=1.0), "pooled", "images")


def test_random_features_are_refused():
    with pytest.raises(ValueError, match="random"):
        LfCbm(recipe=None)


def test_what_a_sweep_over_the_final_layer_costs():
    """One concept layer and one path, whatever lambda, nec and the choice are."""
    sweep = [replace(LfCbm(), lambda_sparse=value) for value in (*LAMBDAS, "val", "nec")]
    sweep += [replace(LfCbm(), lambda_sparse="nec", nec=nec) for nec in (1, 5, 30)]
    assert len({tuple(method.stages(CARD, 0).items()) for method in sweep}) == 1
    dense = replace(LfCbm(), final_layer="dense").stages(CARD, 0)
    assert dense.items() <= sweep[0].stages(CARD, 0).items()
    seeds = [LfCbm().stages(CARD, seed)["concept_layer"] for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def test_from_drawn_images_through_all_its_stages(tiny_clip, tmp_path):
    """With a CLIP of random weights, so that any linear layer on the features is as good as another."""
    method = LfCbm(
        clip=Clip(checkpoint=str(tiny_clip)),
        backbone=SmallCnn(width=4),
        recipe=Recipe(epochs=4, batch_size=8, learning_rate=1e-2),
        clip_cutoff=-1,
        interpretability_cutoff=-1,
        path_length=5,
        lambdas=(0.01,),
        steps=50,
    )
    card = CARD.model_copy(update={"image_size": 48})
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=6), card)
    broken = index.path(int(np.flatnonzero(index.splits == "test")[3]))
    broken.write_bytes(broken.read_bytes()[:200])
    data = run_stages(method.stages(card, SEED), card, index, tmp_path / "columns")
    fitted = method.fit(data, SEED, silent)
    found = values(method.evaluate(fitted, data))
    assert found["average_accuracy", "test", "all", "last"] >= 0.85
    test = data.split("test")
    usable = data.usable(test.ids)
    right = method.predict(fitted, data, test.ids[usable]).argmax(axis=1) == test.labels[usable]
    assert found["average_accuracy", "test", "all", "last"] == pytest.approx(right.sum() / len(test.ids))
    assert method.explain(fitted, data, test.ids[~usable]) == []
