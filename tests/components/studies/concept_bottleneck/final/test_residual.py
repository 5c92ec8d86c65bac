"""Against the minimum that scipy's L-BFGS finds of the formula, in float64."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from components.studies.concept_bottleneck.final.residual import fit_residual

N, D, C = 300, 6, 3


def problem():
    stream = np.random.default_rng(0)
    x = stream.standard_normal((N, D))
    frozen = 0.5 * stream.standard_normal((N, C))
    labels = (frozen + x @ stream.standard_normal((D, C)) + stream.gumbel(size=(N, C))).argmax(axis=1)
    return x.astype(np.float32), frozen.astype(np.float32), labels


def fit(epochs, kappa=0.5):
    return fit_residual(*problem(), kappa, epochs, np.random.default_rng(1))


@pytest.mark.parametrize("kappa", [0.001, 3.0])
def test_it_finds_the_minimum(kappa):
    x, frozen, labels = problem()

    def loss(parameters):
        weight, bias = parameters[: C * D].reshape(C, D), parameters[C * D :]
        logits = frozen + x @ weight.T + bias
        surprise = logsumexp(logits, axis=1) - logits[np.arange(N), labels]
        return surprise.mean() + kappa * np.square(weight).mean()

    start = np.zeros(C * D + C)
    least = minimize(loss, start, method="L-BFGS-B").fun
    found = loss(np.concatenate([part.astype(np.float64).ravel() for part in fit(100, kappa)]))
    assert least <= found < least + 0.02 * (loss(start) - least)


def test_decay_makes_the_weights_smaller_and_no_epoch_leaves_them_at_zero():
    norms = [np.square(fit(30, kappa)[0]).sum() for kappa in (0.0, 1.0, 10.0)]
    assert norms[0] > norms[1] > norms[2]
    assert not any(part.any() for part in fit(0))


def test_the_stream_decides_everything():
    for first, second in zip(fit(3), fit(3), strict=True):
        np.testing.assert_array_equal(first, second)
