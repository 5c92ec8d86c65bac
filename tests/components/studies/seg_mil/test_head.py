"""Both heads against their equations in float64 (docs/methods/seg_mil.md, eqs. 1-12), and against
docs/methods/seg_mil.md, "Checked properties".

B bags, N segments, D features, K concepts, C classes.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.models.networks.network import dump_tensors
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.targets import ConceptTargets
from tests import reference

WIDTH, CONCEPTS, CLASSES, SIZE = 6, 5, 3, 6
KINDS = [(head, pooling) for head in (MilV1, MilV2) for pooling in ("attention", "mean", "max")]
counts_lists = st.lists(st.integers(1, SIZE), min_size=1, max_size=4)
seeds = st.integers(0, 9)
every_kind = pytest.mark.parametrize(("kind", "pooling"), KINDS)
every_head = pytest.mark.parametrize("kind", [MilV1, MilV2])


def head_of(kind, pooling="attention", *, seed=0, temperature=1.0, scaling="zscore", exponent=0.25):
    of_areas = {"area_exponent": exponent, "area_floor": 0.01} if kind is MilV2 else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mean, std = torch.randn(WIDTH), torch.rand(WIDTH) + 0.5
        targets = ConceptTargets(torch.zeros(CONCEPTS), torch.ones(CONCEPTS), "softmax", 0.01)
        head = kind(
            mean,
            std,
            targets,
            CLASSES,
            hidden=4,
            temperature=temperature,
            pooling=pooling,
            scaling=scaling,
            **of_areas,
        )
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
    return head.eval().requires_grad_(False)


def bags_of(counts, size=SIZE, seed=0, padding=0.0):
    """Features (B, N, D), valid (B, N), areas (B, N), the last two zero or `padding` where invalid."""
    stream = np.random.default_rng(seed)
    features = torch.from_numpy(stream.standard_normal((len(counts), size, WIDTH))).float()
    areas = torch.from_numpy(10 ** stream.uniform(-3, 0, (len(counts), size))).float()
    valid = torch.arange(size) < torch.tensor(counts)[:, None]
    features[~valid] = padding
    areas[~valid] = padding
    return features, valid, areas


class Equations:
    """One bag without padding by docs/methods/seg_mil.md, eqs. 1-12, in float64: attention (n, C), eta (n,),
    concepts z (n, K), logits (C,)."""

    def __init__(self, head, features, areas, temperature=1.0, exponent=0.25, floor=0.01):
        w = {name: value.astype(np.float64) for name, value in dump_tensors(head).items()}
        self.w, self.b = w["classifier.weight"], w["classifier.bias"]
        h = (features.numpy().astype(np.float64) - w["mean"]) / w["std"]
        n = len(h)
        self.z = np.array([w["concept_layer.weight"] @ row + w["concept_layer.bias"] for row in h])
        raw = [max(float(area), floor) ** -exponent for area in areas]
        first = isinstance(head, MilV1)
        self.eta = np.ones(n) if first else np.array([value / (sum(raw) / n) for value in raw])
        g = self.eta[:, None] * (self.z @ self.w.T + self.b)
        self.taken = np.zeros((n, CONCEPTS))
        if head.pooling == "mean":
            self.attention = np.full((n, CLASSES), 1 / n)
        elif head.pooling == "attention":
            rows = (
                w["attention_score.weight"].repeat(CLASSES, axis=0) if first else w["attention_score.weight"]
            )
            hidden = np.tanh(h @ w["attention_hidden.weight"].T + w["attention_hidden.bias"])
            anything = np.array([3.0, -1.0, 0.5])  # e_y: the same for all segments, so it cancels
            scores = (hidden @ rows.T + anything) / temperature
            self.attention = np.stack([reference.softmax(scores[:, y]) for y in range(CLASSES)], axis=1)
        elif first:
            for k in range(CONCEPTS):
                self.taken[max(range(n), key=lambda i: self.z[i, k]), k] = 1
            self.attention = self.taken.mean(axis=1, keepdims=True).repeat(CLASSES, axis=1)
            self.logits = self.w @ self.z.max(axis=0) + self.b
            self.evidence = np.array(
                [[w_y @ (t * z) for w_y in self.w] for t, z in zip(self.taken, self.z, strict=True)]
            )
            return
        else:
            self.attention = (g == g.max(axis=0)).astype(float)
        self.logits = np.array(
            [sum(self.attention[i, y] * g[i, y] for i in range(n)) for y in range(CLASSES)]
        )
        self.evidence = np.array(
            [
                [self.attention[i, y] * self.eta[i] * (self.w[y] @ self.z[i]) for y in range(CLASSES)]
                for i in range(n)
            ]
        )


@every_kind
@given(
    counts=counts_lists,
    temperature=st.sampled_from([0.5, 1.0, 5.0]),
    exponent=st.sampled_from([0.0, 0.25, 1.0]),
    seed=seeds,
)
def test_against_the_equations(kind, pooling, counts, temperature, exponent, seed):
    head = head_of(kind, pooling, seed=seed, temperature=temperature, exponent=exponent)
    features, valid, areas = bags_of(counts, seed=seed)
    output = head(features, valid, areas)
    close = {"atol": 2e-4, "rtol": 1e-4}
    for row, n in enumerate(counts):
        expected = Equations(head, features[row, :n], areas[row, :n], temperature, exponent)
        attention = output.attention[row, :n].expand(-1, CLASSES)
        np.testing.assert_allclose(output.logits[row], expected.logits, **close)
        np.testing.assert_allclose(attention, expected.attention, atol=1e-4)
        np.testing.assert_allclose(output.concepts[row, :n], expected.z, **close)
        np.testing.assert_allclose(output.evidence[row, :n], expected.evidence, **close)


@every_kind
@given(counts=counts_lists, seed=seeds)
def test_logits_are_evidence_and_offset_and_evidence_is_its_terms(kind, pooling, counts, seed):
    """Property 2 of docs/methods/seg_mil.md, "Checked properties", for every pooling: in v1 with
    maximum pooling too, where evidence is not attention times W z."""
    head = head_of(kind, pooling, seed=seed)
    features, valid, areas = bags_of(counts, seed=seed, padding=100.0)
    output = head(features, valid, areas)
    assert (output.evidence.sum(dim=1) + output.offset - output.logits).abs().max() < 1e-5
    for label in range(CLASSES):
        labels = torch.full((len(counts),), label)
        terms = head.terms(output, labels)
        torch.testing.assert_close(terms.sum(dim=-1), output.evidence[..., label], atol=1e-5, rtol=1e-5)
        for row, n in enumerate(counts):
            e = Equations(head, features[row, :n], areas[row, :n])
            weights = e.taken if e.taken.any() else e.attention[:, [label]] * e.eta[:, None]
            np.testing.assert_allclose(terms[row, :n], weights * e.w[label] * e.z, atol=2e-4, rtol=1e-4)
    for zero in (output.evidence, output.attention, output.concepts, output.weights, terms):
        assert (zero[~valid] == 0).all()


@every_kind
def test_terms_are_of_the_class_asked_of_each_bag(kind, pooling):
    head = head_of(kind, pooling)
    features, valid, areas = bags_of([4, 6, 2])
    output = head(features, valid, areas)
    labels = torch.tensor([2, 0, 1])
    expected = output.evidence[torch.arange(3), :, labels]
    torch.testing.assert_close(head.terms(output, labels).sum(dim=-1), expected, atol=1e-5, rtol=1e-5)


@every_kind
@given(counts=counts_lists, more=st.integers(0, 9), seed=seeds)
def test_padding_changes_nothing(kind, pooling, counts, more, seed):
    """Property 1 of docs/methods/seg_mil.md, "Checked properties"."""
    head = head_of(kind, pooling, seed=seed)
    short = bags_of(counts, max(counts), seed)
    long = bags_of(counts, max(counts) + more, seed, padding=100.0)
    for filled, given_ in zip((long[0], long[2]), (short[0], short[2]), strict=True):
        filled[:, : max(counts)][short[1]] = given_[short[1]]
    assert (head(*short).logits - head(*long).logits).abs().max() < 1e-5


@every_kind
@given(n=st.integers(2, 8), seed=seeds)
def test_the_order_of_segments_does_not_matter(kind, pooling, n, seed):
    head = head_of(kind, pooling, seed=seed)
    features, valid, areas = bags_of([n], n, seed)
    turn = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    before, after = head(features, valid, areas), head(features[:, turn], valid, areas[:, turn])
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.evidence, before.evidence[:, turn], atol=1e-5, rtol=1e-5)


@every_kind
def test_a_bag_without_a_valid_segment_is_refused(kind, pooling):
    with pytest.raises(ValueError, match="no valid segment"):
        head_of(kind, pooling)(*bags_of([3, 0], 4))


@every_kind
def test_a_bag_of_one_is_a_linear_head_on_its_concepts(kind, pooling):
    """Property 4 of docs/methods/seg_mil.md, "Checked properties": whatever the area, its weight is 1."""
    head = head_of(kind, pooling)
    output = head(*bags_of([1, 1], 4))
    torch.testing.assert_close(output.logits, head.classifier(output.concepts[:, 0]))


@every_kind
@given(counts=counts_lists, seed=seeds)
def test_attention_sums_to_one_over_valid_segments(kind, pooling, counts, seed):
    features, valid, areas = bags_of(counts, seed=seed, padding=100.0)
    attention = head_of(kind, pooling, seed=seed)(features, valid, areas).attention
    assert attention.shape == (*valid.shape, 1 if kind is MilV1 else CLASSES)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(len(counts), attention.shape[-1]))
    assert (attention >= 0).all()
    assert (attention[~valid] == 0).all()


@every_head
def test_low_temperature_chooses_one_and_high_temperature_averages(kind):
    """Property 5 of docs/methods/seg_mil.md, "Checked properties"."""
    bags = bags_of([5, 3])
    cold, mild, hot = (head_of(kind, temperature=t)(*bags).attention for t in (1e-4, 1.0, 1e6))
    assert (cold.max(dim=1).values > 1 - 1e-6).all()
    assert (cold.argmax(dim=1) == mild.argmax(dim=1)).all()
    for row, n in enumerate((5, 3)):
        np.testing.assert_allclose(hot[row, :n], 1 / n, atol=1e-5)


def test_classes_of_the_second_head_attend_apart():
    attention = head_of(MilV2)(*bags_of([5])).attention
    assert (attention[0, :5, 0] - attention[0, :5, 1]).abs().max() > 0.01


@given(counts=counts_lists, exponent=st.sampled_from([0.0, 0.25, 0.5, 2.0]), seed=seeds)
def test_area_weights_average_to_one_and_favour_small_segments(counts, exponent, seed):
    """Property 3 of docs/methods/seg_mil.md, "Checked properties"."""
    _, valid, areas = bags_of(counts, seed=seed)
    eta = head_of(MilV2, exponent=exponent).area_weights(valid, areas)
    assert (eta[~valid] == 0).all()
    for row, n in enumerate(counts):
        assert float(eta[row].sum()) / n == pytest.approx(1, abs=1e-5)
        by_area = eta[row, :n][areas[row, :n].argsort()]
        assert (by_area.diff() <= 1e-6).all()
        if exponent == 0:
            torch.testing.assert_close(eta[row, :n], torch.ones(n))
    if exponent:
        pair = torch.tensor([[0.02, 0.04]])
        small, large = head_of(MilV2, exponent=exponent).area_weights(pair > 0, pair)[0]
        assert float(small / large) == pytest.approx(2**exponent, rel=1e-5)


def test_areas_below_the_floor_weigh_the_same():
    areas = torch.tensor([[1e-5, 0.01, 0.5]])
    eta = head_of(MilV2).area_weights(areas > 0, areas)[0]
    assert float(eta[0]) == pytest.approx(float(eta[1]))


def test_the_first_head_has_no_area_weights():
    features, valid, areas = bags_of([4, 6])
    head = head_of(MilV1)
    torch.testing.assert_close(head(features, valid, areas).logits, head(features, valid, areas**2).logits)


@every_head
def test_a_segment_learns_in_proportion_to_its_attention(kind):
    """d logit_y / d z_i = alpha_iy eta_i w_y, so hardly attended segments barely learn (property 5 of
    docs/methods/seg_mil.md, "Checked properties")."""
    head = head_of(kind).requires_grad_(True)
    seen = []
    head.concept_layer.register_forward_hook(lambda module, args, output: seen.append(output))
    features, valid, areas = bags_of([4])
    output = head(features, valid, areas)
    (gradient,) = torch.autograd.grad(output.logits[0, 1], seen)
    expected = Equations(head, features[0, :4], areas[0, :4])
    weights = (expected.attention[:, 1] * expected.eta)[:, None] * expected.w[1]
    np.testing.assert_allclose(gradient[0, :4], weights, atol=1e-5, rtol=1e-4)
    assert (gradient[0, 4:] == 0).all()


@every_head
def test_scaling_of_features(kind):
    features, valid, areas = bags_of([4, 6])
    scaled = {scaling: head_of(kind, scaling=scaling) for scaling in ("zscore", "layer_norm", "none")}
    z = (features - scaled["zscore"].mean) / scaled["zscore"].std
    rows = features.double().numpy()
    rows = rows - rows.mean(axis=-1, keepdims=True)
    rows = rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + 1e-5)
    for scaling, same in (("zscore", z), ("layer_norm", torch.from_numpy(rows).float())):
        torch.testing.assert_close(
            scaled[scaling](features, valid, areas).logits,
            scaled["none"](same, valid, areas).logits,
            atol=1e-5,
            rtol=1e-5,
        )


@every_head
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_poolings_without_attention_have_none_to_train(kind, pooling):
    assert not any(name.startswith("attention") for name, _ in head_of(kind, pooling).named_parameters())
