"""Pooling of concept maps and the standardisation of concepts, against closed forms
(docs/methods/concept_bottlenecks.md, eq. 10 to eq. 12)."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.data.images import DataError
from components.stage import fixed_size_lists
from components.studies.concept_bottleneck.layer import similarity as concept_similarity
from components.studies.concept_bottleneck.layer.concept_pooling import (
    KEEP_ALL,
    Bottleneck,
    Pooling,
    concept_layer_weights,
    fit_bottleneck,
    kept_concepts,
)
from tests.world import column

KINDS = ["mean", "softmax", "max", "topk"]


def random_maps(seed, n=4, cells=9, concepts=3):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, cells, concepts)))


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_every_pooling_lies_between_mean_and_maximum_and_follows_an_offset(seed, temperature, offset):
    maps = random_maps(seed)
    for kind in KINDS:
        pool = Pooling(kind=kind, temperature=temperature, cells=3)
        pooled = pool(maps)
        assert (maps.mean(1) - 1e-9 <= pooled).all()
        assert (pooled <= maps.amax(1) + 1e-9).all()
        torch.testing.assert_close(pool(maps + offset), pooled + offset)
        torch.testing.assert_close(pool(torch.full_like(maps, offset)), torch.full_like(pooled, offset))
        torch.testing.assert_close(pool(maps[:, :1]), maps[:, 0])


def test_the_limits_of_the_softmax_are_mean_and_maximum():
    maps = random_maps(0)
    torch.testing.assert_close(Pooling(temperature=1e6)(maps), maps.mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(Pooling(temperature=1e-3)(maps), maps.amax(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(Pooling(kind="topk", cells=1)(maps), maps.amax(1))
    torch.testing.assert_close(Pooling(kind="topk", cells=99)(maps), maps.mean(1))


@pytest.mark.parametrize(("deviation", "excess"), [(0.1, 0.01), (1.0, 0.98), (3.0, 6.7)])
def test_softmax_pooling_is_not_blind_to_scale(deviation, excess):
    """144 independent Gaussian cells: the numbers of docs/methods/concept_bottlenecks.md, "Pooling"."""
    maps = deviation * torch.from_numpy(np.random.default_rng(0).standard_normal((4000, 144, 1)))
    assert (Pooling()(maps) - maps.mean(1)).mean().item() == pytest.approx(excess, rel=0.06, abs=0.002)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_of_softmax_pooling_is_the_analytic_one(temperature):
    maps = random_maps(1).requires_grad_()
    pooled = Pooling(temperature=temperature)(maps)
    pooled.sum().backward()
    share = (maps / temperature).softmax(dim=1)
    expected = share * (1 + (maps - pooled[:, None]) / temperature)
    torch.testing.assert_close(maps.grad, expected.detach())
    assert (maps.grad < 0).any(), "it is not monotone"


@pytest.mark.parametrize("kind", ["mean", "softmax"])
def test_raising_a_map_changes_the_concept_as_it_must(kind):
    """By nothing for beta = 0; the whole image by beta itself; under the mean, by the share of cells."""
    maps, beta = random_maps(2), 0.7
    pool = Pooling(kind=kind)
    region = torch.zeros(9, 1, dtype=torch.float64)
    region[:4] = 1
    torch.testing.assert_close(pool(maps + 0 * region), pool(maps), rtol=0, atol=0)
    torch.testing.assert_close(pool(maps + beta), pool(maps) + beta)
    if kind == "mean":
        torch.testing.assert_close(pool(maps + beta * region), pool(maps) + beta * 4 / 9)


def stored_maps(folder, maps, ids=None):
    """A column as `backbone_maps` writes it, of maps (n, D, h, w)."""
    ids = np.arange(len(maps)) if ids is None else ids
    shape = np.tile(np.array(maps.shape[1:], np.int32), (len(maps), 1))
    fields = {"map": maps.reshape(len(maps), -1).astype(np.float16), "shape": shape}
    table = pa.table({"image_id": ids, **{k: fixed_size_lists(v) for k, v in fields.items()}})
    return column(folder, [table])


@pytest.fixture
def maps():
    return np.random.default_rng(3).standard_normal((30, 5, 3, 3)).astype(np.float16).astype(np.float32)


WEIGHT = np.random.default_rng(4).standard_normal((4, 5)).astype(np.float32)


@pytest.mark.parametrize("numbers", [1, 2**22])
def test_mean_pooled_maps_are_the_layer_on_mean_pooled_features(tmp_path, monkeypatch, maps, numbers):
    """Then SALF-CBM and LF-CBM are one class of functions."""
    monkeypatch.setattr(concept_similarity, "BLOCK_NUMBERS", numbers)
    features = stored_maps(tmp_path / "maps", maps)
    plain = Bottleneck(
        weight=WEIGHT, mean=np.zeros(4), std=np.ones(4), pooling=Pooling(kind="mean"), grid_size=3
    )
    found = plain.concepts(features, features.ids)
    np.testing.assert_allclose(found, maps.mean(axis=(2, 3)) @ WEIGHT.T, atol=1e-5)
    bottleneck = replace(plain, pooling=Pooling(kind="max"))
    expected = np.einsum("ndhw,kd->nkhw", maps, WEIGHT)
    np.testing.assert_allclose(
        bottleneck.maps(features, features.ids[[7, 2]]).reshape(2, 4, 3, 3), expected[[7, 2]], atol=1e-5
    )
    np.testing.assert_allclose(
        bottleneck.concepts(features, features.ids), expected.max(axis=(2, 3)), atol=1e-5
    )
    _, _, deviation = fit_bottleneck(features, features.ids, WEIGHT, Pooling(), 3)
    np.testing.assert_allclose(deviation, expected.std(axis=(0, 2, 3)), atol=1e-5)


def test_maps_are_resized_to_the_grid_before_or_after_the_layer_alike(tmp_path, maps):
    """The resize and the layer commute."""
    features = stored_maps(tmp_path / "maps", maps)
    bottleneck = Bottleneck(weight=WEIGHT, mean=np.zeros(4), std=np.ones(4), pooling=Pooling(), grid_size=5)
    found = bottleneck.maps(features, features.ids).reshape(-1, 4, 5, 5)
    own = torch.from_numpy(np.einsum("ndhw,kd->nkhw", maps, WEIGHT))
    expected = torch.nn.functional.interpolate(own, (5, 5), mode="bilinear").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-2)  # resized maps are float16 again


def test_concepts_are_standardised_by_the_training_images(tmp_path, maps):
    features = stored_maps(tmp_path / "maps", maps)
    train = features.ids[:20]
    bottleneck, concepts, _ = fit_bottleneck(features, train, WEIGHT, Pooling(kind="mean"), 3)
    raw = maps.mean(axis=(2, 3)).astype(np.float64) @ WEIGHT.T
    mean, std = raw[:20].mean(axis=0), raw[:20].std(axis=0, ddof=1)
    np.testing.assert_allclose(concepts, (raw[:20] - mean) / std, atol=1e-5)
    np.testing.assert_allclose(
        bottleneck.concepts(features, features.ids[20:]), (raw[20:] - mean) / std, atol=1e-5
    )


def test_a_concept_that_never_varies_is_0(tmp_path, maps):
    maps[:, 0] = 0.3
    weight = WEIGHT.copy()
    weight[1] = [1, 0, 0, 0, 0]
    weight[2] = 0
    features = stored_maps(tmp_path / "maps", maps)
    bottleneck, concepts, _ = fit_bottleneck(features, features.ids, weight, Pooling(), 3)
    np.testing.assert_allclose(concepts[:, [1, 2]], 0, atol=1e-6)
    np.testing.assert_array_equal(bottleneck.std[[1, 2]], 1)
    assert concepts[:, [0, 3]].std(axis=0, ddof=1) == pytest.approx(1, abs=1e-5)


def test_one_image_and_none(tmp_path, maps):
    features = stored_maps(tmp_path / "maps", maps)
    _, concepts, _ = fit_bottleneck(features, features.ids[:1], WEIGHT, Pooling(), 3)
    np.testing.assert_array_equal(concepts, 0)
    with pytest.raises(DataError, match="no training image"):
        fit_bottleneck(features, features.ids[:0], WEIGHT, Pooling(), 3)
    with pytest.raises(DataError, match="no concept"):
        fit_bottleneck(features, features.ids, WEIGHT[:0], Pooling(), 3)


def test_maps_of_unit_deviation(tmp_path, maps):
    features = stored_maps(tmp_path / "maps", maps)
    found = [
        fit_bottleneck(features, features.ids, scale * WEIGHT, Pooling(), 3, unit_maps=True)
        for scale in (1, 37)
    ]
    np.testing.assert_allclose(found[0][2], 1, atol=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-3)


def test_cutoffs_keep_what_is_above_them_and_was_trained():
    layer = {
        "weight": np.arange(8.0).reshape(4, 2),
        "trained": np.array([1, 0, 1, 1], np.uint8),
        "similarity": np.array([0.45, np.nan, 0.46, -1.0], np.float32),
    }
    assert kept_concepts(layer, 0.45 + 1e-6).tolist() == [False, False, True, False]
    assert kept_concepts(layer, KEEP_ALL).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(concept_layer_weights(layer, 0.45 + 1e-6), [[4, 5]])
    texts = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(concept_layer_weights({"embedding": texts}, KEEP_ALL), texts)
