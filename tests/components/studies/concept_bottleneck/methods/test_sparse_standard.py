"""The sparse layer on features as they are, against scikit-learn on the same features."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from components.data.columns import Data
from components.models.networks.backbones.torchvision import Torchvision
from components.stage import TensorStage
from components.studies.concept_bottleneck.concept_bottleneck import final_layer
from components.studies.concept_bottleneck.methods.sparse_standard import SparseStandard
from tests.planted_concepts import CARD, plant, silent

LAMBDA = 0.02
METHOD = SparseStandard(lambda_sparse=LAMBDA, lambdas=(LAMBDA,), path_length=8, path_ratio=0.01)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What a trial reads, on planted features."""
    planted = plant(tmp_path_factory.mktemp("planted"))
    columns, stages = {"features": planted.columns["pooled"]}, METHOD.stages(CARD, 0)
    computed = {}
    for name, reads in (("concept_layer", {}), ("path", {"layer": "concept_layer"})):
        stage = stages[name]
        assert isinstance(stage, TensorStage)
        inputs = {field: computed[other] for field, other in reads.items()}
        computed[name] = stage.compute(Data(CARD, planted.index, columns, inputs), "cpu", silent)
    return Data(CARD, planted.index, columns, computed)


def test_it_is_scikit_learns_elastic_net_on_standardised_features(data):
    """Effective lambda = lambda / alpha; `saga` minimises the sum of losses, so C = 1 / (n lambda)."""
    fitted = METHOD.fit(data, 0, silent)
    train, test = data.usable_split("train"), data.usable_split("test")
    features = [data["features"].array("features", part.ids).astype(np.float64) for part in (train, test)]
    scaler = StandardScaler().fit(features[0])
    deviation = features[0].std(axis=0, ddof=1)
    standardised = [(x - scaler.mean_) / deviation for x in features]
    strength = 1 / (len(train.ids) * LAMBDA / METHOD.alpha)
    reference = LogisticRegression(
        solver="saga", l1_ratio=METHOD.alpha, C=strength, tol=1e-8, max_iter=20_000
    ).fit(standardised[0], train.labels)
    predicted = METHOD.predict(fitted, data, test.ids).argmax(axis=1)
    assert np.mean(predicted == reference.predict(standardised[1])) > 0.97
    assert np.mean(predicted == test.labels) > 0.8
    kept = (np.abs(final_layer(fitted).weight) > 1e-5).any(axis=0)
    assert 0 < kept.sum() < len(kept)
    assert len(fitted.facts["concepts"]) == features[0].shape[1]


def test_dense_needs_no_path_and_all_features(data):
    dense = replace(METHOD, final_layer="dense", lambda_sparse="val")
    assert set(dense.stages(CARD, 0)) == {"features", "concept_layer"}
    fitted = dense.fit(data, 0, silent)
    assert (final_layer(fitted).weight != 0).all()
    found = {(m.name, m.split, m.selection): m.value for m in dense.evaluate(fitted, data)}
    assert found["average_accuracy", "test", "last"] > 0.8


def test_features_without_weights_are_refused():
    with pytest.raises(ValueError, match="random"):
        SparseStandard(recipe=None)
    frozen = SparseStandard(recipe=None, backbone=Torchvision(checkpoint="x.pth"))
    assert frozen.stages(CARD, 0) == frozen.stages(CARD, 1), "nothing depends on the seed"
