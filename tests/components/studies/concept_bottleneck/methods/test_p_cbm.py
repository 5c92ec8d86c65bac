"""P-CBM with CLIP's texts as concepts, on planted concepts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import SGDClassifier

from components.studies.concept_bottleneck.concept_bottleneck import final_layer
from components.studies.concept_bottleneck.methods.p_cbm import PCbm
from tests.planted_concepts import CARD, NAMES, plant, silent

SEED = 5
METHOD = PCbm(path_length=8, path_ratio=0.01, lambdas=(0.02,))
PUBLISHED = replace(METHOD, classifier="one_vs_rest_sgd", lambda_sparse=1e-3)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


def run(planted, method):
    data = planted.run(method, "images", "images")
    fitted = method.fit(data, SEED, silent)
    found = {(m.name, m.split, m.selection): m.value for m in method.evaluate(fitted, data)}
    return data, fitted, found


@pytest.mark.parametrize("final", ["sparse", "dense"])
def test_it_classifies_by_cosines_with_texts(planted, final):
    _, fitted, found = run(planted, replace(METHOD, final_layer=final))
    assert found["average_accuracy", "test", "last"] > 0.8
    assert fitted.facts["concepts"] == list(NAMES)
    assert fitted.facts["dropped"] == {}
    assert ("concept_similarity", "train", "last") not in found


def test_the_published_classifier_is_scikit_learns_on_cosines(planted):
    data, fitted, found = run(planted, PUBLISHED)
    train, test = data.split("train"), data.split("test")
    cosines = [data["features"].array("embedding", part.ids) @ planted.texts.T for part in (train, test)]
    reference = SGDClassifier(
        loss="log_loss", penalty="elasticnet", l1_ratio=0.99, alpha=1e-3, max_iter=10_000, random_state=SEED
    ).fit(cosines[0], train.labels)
    margin = np.diff(PUBLISHED.predict(fitted, data, test.ids), axis=1)[:, 0]
    np.testing.assert_allclose(margin, 2 * reference.decision_function(cosines[1]), atol=1e-3)
    assert found["average_accuracy", "test", "last"] == pytest.approx(
        reference.score(cosines[1], test.labels)
    )
    assert ("gap", "train", "last") not in found


def test_one_regression_per_class(planted):
    labels = planted.present[:, 0].astype(np.int64) + planted.present[:, 1]
    three = replace(planted, index=replace(planted.index, labels=labels))
    card = CARD.model_copy(update={"classes": ("none", "one", "both", "never")})
    data = three.run(PUBLISHED, "images", "images")
    data.card = card
    fitted = PUBLISHED.fit(data, SEED, silent)
    train = data.split("train")
    cosines = data["features"].array("embedding", train.ids) @ planted.texts.T
    reference = SGDClassifier(
        loss="log_loss", penalty="elasticnet", l1_ratio=0.99, alpha=1e-3, max_iter=10_000, random_state=SEED
    ).fit(cosines, train.labels)
    logits = PUBLISHED.predict(fitted, data, train.ids)
    np.testing.assert_allclose(logits[:, :3], reference.decision_function(cosines), atol=1e-3)
    assert (logits.argmax(axis=1) < 3).all(), "a class without images is never predicted"


def test_a_large_lambda_predicts_the_prior(planted):
    method = replace(PUBLISHED, lambda_sparse=1e3)
    data, fitted, _ = run(planted, method)
    assert (final_layer(fitted).weight == 0).all()
    predictions = method.predict(fitted, data, data.split("test").ids).argmax(axis=1)
    assert len(set(predictions.tolist())) == 1


def test_a_concepts_length_does_not_count(planted):
    """Texts come as unit vectors; what is left of a length goes away when concepts are standardised."""
    _, first, _ = run(planted, METHOD)
    _, second, _ = run(replace(planted, texts=3 * planted.texts), METHOD)
    np.testing.assert_allclose(first.tensors["last/weight"], second.tensors["last/weight"], atol=1e-3)


def test_the_published_classifier_has_no_path_and_needs_a_lambda():
    assert set(PUBLISHED.stages(CARD, 0)) == {"features", "concept_layer"}
    assert PUBLISHED.stages(CARD, 0).items() <= METHOD.stages(CARD, 0).items()
    with pytest.raises(ValueError, match="must be a number"):
        PCbm(classifier="one_vs_rest_sgd")
    replace(PUBLISHED, lambda_sparse=0.123)  # any: there is no path on which it must lie


def test_its_stages_do_not_depend_on_the_seed():
    assert METHOD.stages(CARD, 0) == METHOD.stages(CARD, 1)


def test_explanations_name_concepts(planted):
    data, fitted, _ = run(planted, METHOD)
    ids = data.split("test").ids[:3]
    for explanation in METHOD.explain(fitted, data, ids):
        assert {c.removeprefix("NOT ").rsplit(" ", 1)[0] for c in explanation.captions} <= set(NAMES)


RESIDUAL = replace(METHOD, residual=True)


def test_a_residual_that_is_zero_leaves_the_model(planted):
    data, fitted, found = run(planted, replace(RESIDUAL, residual_epochs=0))
    _, plain, expected = run(planted, METHOD)
    ids = data.split("test").ids
    np.testing.assert_array_equal(RESIDUAL.predict(fitted, data, ids), METHOD.predict(plain, data, ids))
    for (name, split, selection), value in expected.items():
        assert found[name, split, selection] == pytest.approx(value, nan_ok=True)


def test_both_models_are_evaluated(planted):
    data, fitted, found = run(planted, RESIDUAL)
    _, _, plain = run(planted, METHOD)
    test = data.split("test")
    embeddings = data["features"].array("embedding", test.ids)
    logits = METHOD.predict(fitted, data, test.ids)
    logits = logits + embeddings @ fitted.tensors["residual_weight"].T + fitted.tensors["residual_bias"]
    accuracy = found["average_accuracy", "test", "last"]
    assert accuracy == pytest.approx((logits.argmax(axis=1) == test.labels).mean())
    assert found["average_accuracy", "test", "without_residual"] == plain["average_accuracy", "test", "last"]
    assert found["nec", "train", "last"] == plain["nec", "train", "last"]


def test_contributions_are_to_the_class_that_the_residual_makes_of_it(planted):
    """A residual that turns every prediction round, so that the first concept's part has the other sign."""
    data, fitted, _ = run(planted, RESIDUAL)
    ids = data.split("test").ids
    plain, concepts = METHOD.predict(fitted, data, ids).argmax(axis=1), METHOD.concepts(fitted, data, ids)
    weight = final_layer(fitted).weight
    for label in range(2):
        fitted.tensors |= {"residual_weight": np.zeros_like(fitted.tensors["residual_weight"])}
        fitted.tensors |= {"residual_bias": 1e6 * np.eye(2, dtype=np.float32)[label]}
        for row, said in enumerate(RESIDUAL.contributions(fitted, data, ids)):
            terms = weight[label] * concepts[row]
            assert said[0][1] == pytest.approx(terms[np.abs(terms).argmax()])
    assert set(plain) == {0, 1}


def test_without_any_weight_the_prior_is_predicted(planted):
    """At the largest lambda of the path no weight is left, and the bias is the classes' log frequency."""
    data, fitted, _ = run(planted, METHOD)
    path = data.tensors("path")
    assert (path["weight"][0] == 0).all()
    fitted.tensors |= {"last/weight": path["weight"][0], "last/bias": path["bias"][0]}
    shares = softmax(METHOD.predict(fitted, data, data.split("test").ids), axis=1)
    prior = np.bincount(data.split("train").labels) / len(data.split("train").labels)
    np.testing.assert_allclose(shares, np.broadcast_to(prior, shares.shape), atol=5e-3)


def test_a_projection_does_not_depend_on_the_length_of_its_vector(planted):
    """docs/methods/concept_bottlenecks.md, eq. 20: on the concepts as the published classifier reads them,
    which are not standardised."""
    data, fitted, _ = run(planted, PUBLISHED)
    ids = data.split("test").ids
    lengths = np.linalg.norm(fitted.tensors["concept_weight"], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    e, v = data["features"].array("embedding", ids), 7.5 * planted.texts
    expected = e @ v.T / np.linalg.norm(v, axis=1)
    np.testing.assert_allclose(PUBLISHED.concepts(fitted, data, ids), expected, atol=1e-6)
