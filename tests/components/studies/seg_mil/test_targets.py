"""What concepts are trained towards, and how agreement is measured: docs/methods/seg_mil.md, eqs. 13-17."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from components.studies.seg_mil.targets import (
    ConceptTargets,
    best_constant_cosine,
    concept_cosine,
    shuffled,
)
from tests import reference

SIZE, CONCEPTS = 6, 5
counts_lists = st.lists(st.integers(1, SIZE), min_size=1, max_size=4)


def targets_of(similarities, kind="softmax", temperature=0.01):
    flat = similarities.reshape(-1, similarities.shape[-1])
    return ConceptTargets(flat.mean(0), flat.std(0, correction=0).clamp_min(1e-6), kind, temperature)


def valid_of(counts, size=SIZE):
    return torch.arange(size) < torch.tensor(counts)[:, None]


@given(counts_lists, st.integers(0, 9), st.floats(0.01, 100))
def test_concept_cosine_against_the_definition(counts, seed, scale):
    stream = np.random.default_rng(seed)
    z, q = (stream.standard_normal((len(counts), SIZE, CONCEPTS)) for _ in range(2))
    valid = valid_of(counts)
    cosines = [reference.cosine(z[b, i], q[b, i]) for b, n in enumerate(counts) for i in range(n)]

    def cosine():
        return float(concept_cosine(torch.from_numpy(z), torch.from_numpy(q), valid))

    assert -1 <= cosine() <= 1
    assert cosine() == pytest.approx(np.mean(cosines), abs=1e-9)
    z *= scale
    assert cosine() == pytest.approx(np.mean(cosines), abs=1e-9)
    z[~valid.numpy()] = 1e6
    q[~valid.numpy()] = np.nan
    assert cosine() == pytest.approx(np.mean(cosines), abs=1e-9)


def test_concept_cosine_at_its_ends():
    q = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 4, CONCEPTS)))
    valid = torch.ones(2, 4, dtype=bool)
    assert float(concept_cosine(3 * q, q, valid)) == pytest.approx(1)
    assert float(concept_cosine(-q, q, valid)) == pytest.approx(-1)


def best_found(flat, starts):
    """The best mean cosine with the rows of `flat` that a search over vectors finds."""
    units = flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def loss_and_gradient(u):
        length = np.linalg.norm(u)
        mean = units.mean(axis=0)
        return -float(mean @ u) / length, -(mean - (mean @ u) * u / length**2) / length

    return max(-minimize(loss_and_gradient, start, jac=True).fun for start in starts)


@pytest.mark.parametrize("seed", range(3))
def test_no_constant_vector_does_better_than_the_best(seed):
    stream = np.random.default_rng(seed)
    targets = stream.gamma(0.5, size=(3, 5, CONCEPTS))
    valid = valid_of([5, 2, 4], 5)
    flat = targets[valid.numpy()]
    best = float(best_constant_cosine(torch.from_numpy(targets), valid))
    assert best == pytest.approx(best_found(flat, stream.standard_normal((4, CONCEPTS))), abs=1e-6)
    for constant in stream.standard_normal((200, CONCEPTS)):
        assert np.mean([reference.cosine(constant, target) for target in flat]) <= best + 1e-9


@given(st.integers(0, 9), st.sampled_from([0.01, 0.1, 1.0]))
def test_softmax_targets_against_the_definition(seed, temperature):
    similarities = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (2, 3, CONCEPTS)))
    q = targets_of(similarities, "softmax", temperature)(similarities)
    for b in range(2):
        for i in range(3):
            expected = reference.softmax(similarities[b, i].numpy() / temperature)
            np.testing.assert_allclose(q[b, i], expected, atol=1e-12)


def test_zscore_targets_are_standardised_for_each_concept_over_the_training_segments():
    train = torch.from_numpy(np.random.default_rng(0).normal([0.1, 0.2, 0.3, 0.2, 0.1], 0.02, (40, CONCEPTS)))
    targets = targets_of(train, "zscore")
    z = targets(train)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(0, correction=0), 1)
    other = train[:3] + 0.02
    columns = [
        (other[:, k].numpy() - train[:, k].numpy().mean()) / train[:, k].numpy().std()
        for k in range(CONCEPTS)
    ]
    np.testing.assert_allclose(targets(other), np.stack(columns, axis=1))


def test_only_sharp_or_standardised_targets_can_teach_anything():
    """CLIP's cosines lie in a narrow band, so that one constant vector nearly fits raw ones
    (docs/methods/seg_mil.md, eq. 15)."""
    stream = np.random.default_rng(0)
    cosines = torch.from_numpy(stream.normal(0.22, 0.02, 100) + stream.normal(0, 0.015, (300, 100)))
    valid = torch.ones(300, dtype=bool)

    def constant(targets):
        best = float(best_constant_cosine(targets, valid))
        starts = stream.standard_normal((2, 100))
        assert best - 2e-3 < best_found(targets.numpy(), starts) <= best + 1e-9
        return best

    assert constant(cosines) > 0.99
    assert constant(targets_of(cosines, "softmax", 1.0)(cosines)) > 0.999
    assert constant(targets_of(cosines, "softmax", 0.01)(cosines)) < 0.9
    assert constant(targets_of(cosines, "zscore")(cosines)) < 0.1


def test_shuffled_cosines_are_those_of_other_segments():
    valid = valid_of([3, 6, 1, 5])
    similarities = torch.from_numpy(np.random.default_rng(0).standard_normal((4, SIZE, CONCEPTS)))
    found = shuffled(similarities, valid, np.random.default_rng(1))
    rows, before = (sorted(x[valid].tolist()) for x in (found, similarities))
    assert rows == before
    stay = (found[valid] == similarities[valid]).all(dim=1)
    assert stay.double().mean() < 0.5
    torch.testing.assert_close(found[~valid], similarities[~valid])
