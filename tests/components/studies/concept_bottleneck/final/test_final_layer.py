"""Final layers: the dense one against scikit-learn, choices on a path against cases done by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from components.studies.concept_bottleneck.final.dense import fit_dense
from components.studies.concept_bottleneck.final.final_layer import (
    FinalLayer,
    at_nec,
    dense_layer,
    first_best,
)
from components.studies.concept_bottleneck.final.sparse_path import SparseFit


def examples(n=200, seed=0):
    stream = np.random.default_rng(seed)
    x = stream.standard_normal((n, 6)).astype(np.float32)
    y = (x @ stream.standard_normal((6, 3)) + stream.standard_normal((n, 3))).argmax(axis=1)
    return x, y.astype(np.int64)


def objective(weight, bias, x, y, weight_decay):
    loss = -log_softmax(x @ np.float64(weight).T + bias, axis=1)[np.arange(len(y)), y].mean()
    return loss + weight_decay / 2 * np.square(weight, dtype=np.float64).sum()


@pytest.mark.parametrize("weight_decay", [1.0, 0.01])
def test_the_dense_layer_is_scikit_learns_optimum(weight_decay):
    x, y = examples()
    none = x[:0], y[:0]  # without held-out images it runs to the end
    found = fit_dense((x, y), none, 3, weight_decay)
    reference = LogisticRegression(C=1 / (weight_decay * len(y)), tol=1e-10, max_iter=5000).fit(x, y)
    expected = objective(reference.coef_, reference.intercept_, x, y, weight_decay)
    assert objective(*found, x, y, weight_decay) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(found[0], reference.coef_, atol=2e-3)


def test_held_out_images_end_its_training_before_it_fits_noise():
    """On random labels the first steps are the best by held-out images, and zeros the optimum."""
    stream = np.random.default_rng(0)
    x = stream.standard_normal((60, 40)).astype(np.float32)
    y = stream.integers(0, 3, 60)
    train, held_out = (x[:40], y[:40]), (x[40:], y[40:])
    stopped = fit_dense(train, held_out, 3, 0.0)
    unstopped = fit_dense(train, (x[:0], y[:0]), 3, 0.0)
    assert objective(*stopped, *held_out, 0.0) < objective(*unstopped, *held_out, 0.0)
    assert np.abs(stopped[0]).max() < np.abs(unstopped[0]).max()


def test_it_is_fitted_to_nine_tenths_of_the_images():
    """With a penalty under which training ends at the optimum, which is scikit-learn's on the tenths that the stream
    leaves for it."""
    x, y = examples(400)
    rest = np.random.default_rng(5).permutation(400)[40:]
    reference = LogisticRegression(C=1 / (0.5 * len(rest)), tol=1e-10, max_iter=5000).fit(x[rest], y[rest])
    layer = dense_layer(x, y, 3, 0.5, np.random.default_rng(5))
    np.testing.assert_allclose(layer.weight, reference.coef_, atol=5e-3)


@pytest.mark.parametrize("n", [1, 3, 12])
def test_few_images_and_a_class_without_any(n):
    x, y = examples(n)
    layer = dense_layer(x, y, 5, 0.1, np.random.default_rng(0))
    assert layer.weight.shape == (5, 6)
    assert np.isfinite(layer.logits(x)).all()


def fit(level, weight):
    return SparseFit(level, np.array(weight, np.float32), np.arange(2, dtype=np.float32), 0.0, 0.0, True)


PATH = [
    fit(1.0, [[0, 0, 0, 0], [0, 0, 0, 0]]),
    fit(0.5, [[0.1, 0, 0, 0], [-0.2, 0, 0, 1e-6]]),
    fit(0.1, [[0.4, 0.1, 0, 0], [-0.3, 0, 0.2, 0.5]]),
]


def test_a_number_of_effective_concepts_is_cut_from_the_sparsest_fit_that_has_as_many():
    """1e-6 is no weight, so the second fit has two."""
    one, position = at_nec(PATH, 1)
    assert position == 1
    np.testing.assert_array_equal(one.weight, np.float32([[0.1, 0, 0, 0], [-0.2, 0, 0, 0]]))
    two, position = at_nec(PATH, 2)
    assert position == 2
    np.testing.assert_array_equal(two.weight, np.float32([[0.4, 0, 0, 0], [-0.3, 0, 0.2, 0.5]]))
    np.testing.assert_array_equal(two.bias, [0, 1])
    assert (two.nonzero_weights, two.nec) == (4, 2)
    densest, position = at_nec(PATH, 3)
    assert position == 2
    np.testing.assert_array_equal(densest.weight, PATH[2].weight)


def test_the_sparsest_of_equally_good_points_is_chosen():
    assert first_best([0.5, 0.9, 0.7, 0.9]) == 1
    assert first_best([float("nan")] * 3) == 2


def test_logits_are_affine():
    layer = FinalLayer(PATH[2].weight, PATH[2].bias)
    np.testing.assert_allclose(layer.logits(np.float32([[1, 0, 0, 2]])), [[0.4, -0.3 + 1 + 1]], rtol=1e-6)
