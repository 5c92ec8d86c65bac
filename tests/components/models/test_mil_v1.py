"""The head and its losses against the equations, and the assertions A9 of the specification."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from components.models.mil_v1 import ConceptTargets, MilV1, best_constant_cosine, concept_cosine
from components.models.network import dump_tensors
from tests import reference

WIDTH, CONCEPTS, CLASSES = 6, 5, 3


def targets_of(similarities, kind="softmax", temperature=0.01):
    flat = similarities.reshape(-1, similarities.shape[-1])
    return ConceptTargets(flat.mean(0), flat.std(0, correction=0).clamp_min(1e-6), kind, temperature)


def head_of(temperature=1.0, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        targets = targets_of(torch.rand(9, CONCEPTS))
        mean, std = torch.randn(WIDTH), torch.rand(WIDTH) + 0.5
        head = MilV1(mean, std, targets, CLASSES, hidden=4, temperature=temperature)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
    return head.eval()


def bags_of(counts, size, seed=0, padding=0.0):
    features = torch.from_numpy(
        np.random.default_rng(seed).standard_normal((len(counts), size, WIDTH))
    ).float()
    valid = torch.arange(size) < torch.tensor(counts)[:, None]
    features[~valid] = padding
    return features, valid


counts_lists = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(counts_lists, st.sampled_from([0.1, 1.0, 5.0]), st.integers(0, 5))
def test_against_the_equations(counts, temperature, seed):
    head = head_of(temperature, seed)
    features, valid = bags_of(counts, 6, seed)
    output = head(features, valid)
    for row, n in enumerate(counts):
        logits, attention, concepts = reference.mil_v1(
            dump_tensors(head), features[row, :n].numpy(), temperature
        )
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=3e-4, rtol=1e-4)
        np.testing.assert_allclose(output.attention[row, :n].detach(), attention, atol=1e-4)
        np.testing.assert_allclose(output.concepts[row, :n].detach(), concepts, atol=1e-4, rtol=1e-4)
        assert (output.attention[row, n:] == 0).all()
        assert float(output.attention[row].detach().sum()) == pytest.approx(1, abs=1e-6)


@given(counts_lists, st.integers(0, 9), st.integers(0, 5))
def test_padding_changes_nothing(counts, more, seed):
    head = head_of(seed=seed)
    short, valid_short = bags_of(counts, max(counts), seed)
    size = max(counts) + more
    long, valid_long = bags_of(counts, size, seed, padding=100.0)
    long[:, : max(counts)][valid_short] = short[valid_short]
    exact, padded = head(short, valid_short), head(long, valid_long)
    assert (exact.logits - padded.logits).abs().max() < 1e-5
    assert (padded.concepts[~valid_long] == 0).all()


@given(st.integers(2, 8), st.integers(0, 20))
def test_the_order_of_segments_does_not_matter(n, seed):
    head = head_of(seed=seed)
    features, valid = bags_of([n], n, seed)
    turned = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    torch.testing.assert_close(
        head(features[:, turned], valid).logits, head(features, valid).logits, atol=1e-5, rtol=1e-5
    )


def test_a_bag_of_one_is_a_linear_head_on_its_concepts():
    head = head_of()
    features, valid = bags_of([1], 4)
    output = head(features, valid)
    torch.testing.assert_close(output.logits, head.classifier(output.concepts[:, 0]))


def test_low_temperature_chooses_one_and_high_temperature_averages():
    features, valid = bags_of([5, 3], 6)
    cold, hot = (head_of(temperature)(features, valid).attention for temperature in (1e-4, 1e6))
    assert (cold.max(dim=1).values > 1 - 1e-6).all()
    np.testing.assert_allclose(hot[0].detach(), [1 / 5] * 5 + [0], atol=1e-5)
    np.testing.assert_allclose(hot[1].detach(), [1 / 3] * 3 + [0] * 3, atol=1e-5)
    assert (cold.argmax(dim=1) == head_of(1.0)(features, valid).attention.argmax(dim=1)).all()


def test_a_bag_without_a_valid_segment_is_refused():
    features, valid = bags_of([3, 0], 4)
    with pytest.raises(ValueError, match="no valid segment"):
        head_of()(features, valid)


def test_a_segment_learns_in_proportion_to_its_attention():
    """d logit_y / d z_i = alpha_i w_y, so hardly attended segments barely learn (A9.5)."""
    head = head_of()
    seen = []
    head.concept_layer.register_forward_hook(lambda module, args, output: seen.append(output))
    features, valid = bags_of([4], 6)
    output = head(features, valid)
    (gradient,) = torch.autograd.grad(output.logits[0, 1], seen)
    expected = output.attention[0, :, None] * head.classifier.weight[1]
    torch.testing.assert_close(gradient[0], expected, atol=1e-6, rtol=1e-5)
    assert (gradient[0, 4:] == 0).all()


@given(counts_lists, st.integers(0, 9), st.floats(0.01, 100))
def test_concept_cosine_against_the_definition(counts, seed, scale):
    stream = np.random.default_rng(seed)
    z, q = (stream.standard_normal((len(counts), 6, CONCEPTS)) for _ in range(2))
    _, valid = bags_of(counts, 6)
    cosines = [reference.cosine(z[b, i], q[b, i]) for b, n in enumerate(counts) for i in range(n)]
    value = concept_cosine(torch.from_numpy(z), torch.from_numpy(q), valid)
    assert -1 <= float(value) <= 1
    assert float(value) == pytest.approx(np.mean(cosines), abs=1e-9)
    assert float(concept_cosine(torch.from_numpy(z * scale), torch.from_numpy(q), valid)) == pytest.approx(
        float(value)
    )
    z[~valid.numpy()] = 1e6
    assert float(concept_cosine(torch.from_numpy(z), torch.from_numpy(q), valid)) == pytest.approx(
        float(value)
    )


def test_concept_cosine_at_its_ends():
    _, q = bags_of([2, 3], 4, seed=1)[1], bags_of([4, 4], 4, seed=2)[0]
    valid = torch.ones(2, 4, dtype=bool)
    assert float(concept_cosine(3 * q, q, valid)) == pytest.approx(1)
    assert float(concept_cosine(-q, q, valid)) == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(3))
def test_no_constant_vector_does_better_than_the_best(seed):
    stream = np.random.default_rng(seed)
    targets = stream.gamma(0.5, size=(3, 5, CONCEPTS))
    _, valid = bags_of([5, 2, 4], 5)
    flat = targets[valid.numpy()]
    mean_cosine = lambda u: np.mean([reference.cosine(u, t) for t in flat])  # noqa: E731
    found = max(-minimize(lambda u: -mean_cosine(u), stream.standard_normal(CONCEPTS)).fun for _ in range(4))
    best = float(best_constant_cosine(torch.from_numpy(targets), valid))
    assert best == pytest.approx(found, abs=1e-4)
    assert all(mean_cosine(u) <= best + 1e-9 for u in stream.standard_normal((200, CONCEPTS)))


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
    """A6: CLIP's cosines lie in a narrow band, so that one constant vector nearly fits raw ones."""
    stream = np.random.default_rng(0)
    cosines = torch.from_numpy(stream.normal(0.22, 0.02, 100) + stream.normal(0, 0.015, (300, 100)))
    valid = torch.ones(300, dtype=bool)

    def constant(kind, temperature=1.0):
        return float(best_constant_cosine(targets_of(cosines, kind, temperature)(cosines), valid))

    assert float(best_constant_cosine(cosines, valid)) > 0.99
    assert constant("softmax", 1.0) > 0.999
    assert constant("softmax", 0.01) < 0.9
    assert constant("zscore") < 0.1
