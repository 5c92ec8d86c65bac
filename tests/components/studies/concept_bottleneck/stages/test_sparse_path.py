"""The path of sparse final layers on planted concepts, against scikit-learn and the objective written out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from components.data.columns import Data
from components.data.images import DataError
from components.models.clip.clip import Clip
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from components.studies.concept_bottleneck.layer.concept_pooling import Bottleneck, Pooling
from components.studies.concept_bottleneck.stages.sparse_path import SparsePath
from tests.planted_concepts import CARD, NAMES, plant, silent

ALPHA = 0.9
PATH = SparsePath(
    features=ClipImages(clip=Clip()),
    layer=ClipTexts(clip=Clip(), texts=NAMES),
    interpretability_cutoff=-1,
    pooling=Pooling(kind="mean"),
    unit_maps=False,
    alpha=ALPHA,
    path_length=6,
    path_ratio=0.02,
    lambdas=(0.05, 0.02),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"))


def compute(planted, path=PATH, texts=None, report=silent, card=CARD):
    layer = {"embedding": planted.texts if texts is None else texts}
    data = Data(card, planted.index, {"features": planted.columns["images"]}, {"layer": layer})
    return path.compute(data, "cpu", report)


@pytest.fixture(scope="module")
def found(planted):
    return compute(planted)


def standardised(planted):
    train = planted.index.splits == "train"
    raw = planted.columns["images"].array("embedding", planted.index.image_ids[train])[:, : len(NAMES)]
    raw = raw.astype(np.float64)
    return (raw - raw.mean(axis=0)) / raw.std(axis=0, ddof=1), planted.index.labels[train]


def objective(weight, bias, lambda_sparse, concepts, labels):
    """docs/methods/concept_bottlenecks.md, eq. 13, at the effective lambda of eq. 14."""
    loss = -log_softmax(concepts @ weight.T + bias, axis=1)[np.arange(len(labels)), labels].mean()
    penalty = ALPHA * np.abs(weight).sum() + (1 - ALPHA) / 2 * np.square(weight).sum()
    return loss + lambda_sparse / ALPHA * penalty


def test_the_path_goes_down_from_no_weight_and_holds_the_lambdas_asked_for(found):
    lambdas = found["lambda_sparse"]
    assert len(lambdas) == PATH.path_length + len(PATH.lambdas)
    assert (np.diff(lambdas) < 0).all()
    assert set(PATH.lambdas) <= set(lambdas.tolist())
    assert lambdas[-1] == pytest.approx(lambdas[0] * PATH.path_ratio)
    nonzero = (np.abs(found["weight"]) > 1e-5).sum(axis=(1, 2))
    assert nonzero[0] == 0
    assert nonzero[1] > 0
    assert nonzero[-1] > 2


def test_stored_weights_have_the_stored_objective_on_standardised_concepts(planted, found):
    concepts, labels = standardised(planted)
    for row, value in enumerate(found["objective"]):
        parts = found["weight"][row], found["bias"][row], found["lambda_sparse"][row]
        assert objective(*parts, concepts, labels) == pytest.approx(value, rel=1e-5)


def test_it_is_scikit_learns_optimum(planted):
    """Of three classes, as for two scikit-learn fits one weight where the multinomial has two."""
    labels = planted.present[:, 0].astype(np.int64) + planted.present[:, 1]
    three = replace(planted, index=replace(planted.index, labels=labels))
    found = compute(three, card=CARD.model_copy(update={"classes": ("none", "one", "both")}))
    concepts, labels = standardised(three)
    effective = 0.02 / ALPHA
    reference = LogisticRegression(
        solver="saga", l1_ratio=ALPHA, C=1 / (effective * len(labels)), tol=1e-8, max_iter=20_000
    ).fit(concepts, labels)
    row = found["lambda_sparse"].tolist().index(0.02)
    expected = objective(reference.coef_, reference.intercept_, 0.02, concepts, labels)
    assert found["objective"][row] == pytest.approx(expected, rel=2e-4)
    np.testing.assert_allclose(found["weight"][row], reference.coef_, atol=0.02)


def test_what_the_fits_stand_on_is_stored_with_them(planted, found):
    concepts, _ = standardised(planted)
    bottleneck = Bottleneck(
        weight=found["concept_weight"], mean=found["mean"], std=found["std"], pooling=PATH.pooling
    )
    train = planted.index.image_ids[planted.index.splits == "train"]
    np.testing.assert_allclose(bottleneck.concepts(planted.columns["images"], train), concepts, atol=1e-3)


def test_every_fit_is_reported(planted, found):
    steps = []
    compute(planted, report=lambda step, **metrics: steps.append((step, metrics["lambda_sparse"])))
    assert steps == list(enumerate(found["lambda_sparse"]))


def test_a_concept_that_is_the_same_in_all_images_gets_no_weight(planted):
    texts = planted.texts.copy()
    texts[0] = 0
    found = compute(planted, texts=texts)
    assert (found["weight"][:, :, 0] == 0).all()
    assert np.isfinite(found["weight"]).all()


def test_a_class_with_one_image_and_a_class_with_none(planted):
    splits, labels = planted.index.splits, planted.index.labels
    others = splits == "train"
    first = np.flatnonzero(others & (labels == 1))[0]
    alone = compute(planted.rows(others & ((labels == 0) | (np.arange(len(labels)) == first))))
    assert np.isfinite(alone["weight"]).all()
    assert alone["lambda_sparse"][0] > 0
    none = compute(planted.rows(others & (labels == 0)), replace(PATH, path_length=2))
    assert (none["weight"] == 0).all()
    assert (none["bias"][:, 0] >= none["bias"][:, 1]).all()


def test_more_concepts_than_images(planted):
    few = planted.rows(np.flatnonzero(planted.index.splits == "train")[:8])
    found = compute(few)
    assert found["weight"].shape[2] == len(NAMES) > 8
    assert np.isfinite(found["weight"]).all()


def test_no_image_and_no_concept(planted):
    with pytest.raises(DataError, match="no training image"):
        compute(planted.rows(planted.index.splits == "val"))
    layer = {
        "weight": np.zeros((len(NAMES), 1), np.float32),
        "trained": np.ones(len(NAMES), np.uint8),
        "similarity": np.zeros(len(NAMES), np.float32),
    }
    data = Data(CARD, planted.index, {"features": planted.columns["images"]}, {"layer": layer})
    with pytest.raises(DataError, match="no concept is left"):
        replace(PATH, interpretability_cutoff=0.45).compute(data, "cpu", silent)
