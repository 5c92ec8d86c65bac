"""The loss of a batch against its parts, who drops out, and which candidate each rule of selection keeps."""

import math
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.identity import rng
from components.method import Fitted
from components.models.networks.network import dump_tensors
from components.pixels.bags import Bags
from components.studies.seg_mil import heads, training
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from components.studies.seg_mil.training import (
    Selection,
    bag_loss,
    fit_head,
    trusted_names,
    without_dropped,
)
from tests import reference

LABELS = np.array([0, 0, 0, 0, 1, 1])
GROUPS = np.array([0, 0, 0, 0, 1, 1])


class Candidate(torch.nn.Module):
    """A head that is right on the given images and carries its number."""

    def __init__(self, number, right):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(float(number)))
        self.predictions = np.where(np.isin(np.arange(6), right), LABELS, 1 - LABELS)


@pytest.fixture
def chosen(monkeypatch):
    monkeypatch.setattr(training, "run_head", lambda head, bags: (np.eye(2)[head.predictions], None))

    def choose(*rights, labels=LABELS, groups=GROUPS):
        selection = Selection()
        for number, right in enumerate(rights):
            selection.consider(Candidate(number, right), SimpleNamespace(labels=labels, groups=groups))
        return {name.removesuffix("/number"): int(value) for name, value in selection.tensors.items()}

    return choose


def test_each_rule_keeps_its_first_best(chosen):
    """Averages 4/6, 5/6, 4/6, 5/6; worst groups 0, 1/2, 1/2, 1/2 ... and then 3/4 with the average 4/6."""
    majority, better, fair = [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 4]
    assert chosen(majority, better, fair, better) == {"last": 3, "val_average": 1, "val_worst_group": 1}
    spread = [1, 2, 3, 4, 5]
    assert chosen(better, spread, majority) == {"last": 2, "val_average": 0, "val_worst_group": 1}


def test_a_candidate_that_is_never_right_is_still_one(chosen):
    assert chosen([], []) == {"last": 1, "val_average": 0, "val_worst_group": 0}


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.99, 1 - 1e-12]),
    seed=st.integers(0, 99),
)
def test_dropping_segments_never_empties_a_bag_nor_fills_one(counts, share, seed):
    valid = torch.arange(6) < torch.tensor(counts)[:, None]
    kept = without_dropped(valid, share, np.random.default_rng(seed))
    assert kept.dtype == torch.bool
    assert kept.any(dim=1).all()
    assert not (kept & ~valid).any()
    if share == 0:
        assert (kept == valid).all()


def test_segments_drop_out_as_often_as_asked():
    """In bags of 20, of which none is ever empty at this share: 5 standard deviations of a binomial."""
    valid = torch.ones(2000, 20, dtype=bool)
    dropped = ~without_dropped(valid, 0.2, np.random.default_rng(0))
    n = valid.numel()
    assert abs(int(dropped.sum()) - 0.2 * n) < 5 * np.sqrt(n * 0.2 * 0.8)
    places = dropped.float().mean(dim=0)
    assert (places - 0.2).abs().max() < 5 * np.sqrt(0.2 * 0.8 / len(valid))


def test_the_one_that_stays_is_any():
    kept = without_dropped(torch.ones(4000, 4, dtype=bool), 1 - 1e-12, np.random.default_rng(0))
    assert (kept.sum(dim=1) == 1).all()
    assert (kept.float().mean(dim=0) - 0.25).abs().max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def random_bags(counts, size=5, width=7, n_concepts=4, seed=0):
    stream = np.random.default_rng(seed)
    n = len(counts)
    valid = np.arange(size) < np.array(counts)[:, None]
    areas = np.where(valid, stream.uniform(0.01, 0.5, valid.shape), 0).astype(np.float32)
    nothing = np.zeros(valid.shape, np.int64)
    bags = Bags(np.arange(n), nothing, nothing, np.zeros(valid.shape, np.float32), areas, valid)
    features = stream.standard_normal((n, size, width)).astype(np.float32) * valid[..., None]
    similarities = stream.uniform(0.1, 0.3, (n, size, n_concepts)).astype(np.float32) * valid[..., None]
    labels = stream.integers(0, 3, n)
    return BagTensors(bags, labels, labels, torch.from_numpy(features), torch.from_numpy(similarities))


DATA = SimpleNamespace(card=SimpleNamespace(classes=("a", "b", "c")))


def expected_loss(method, head, bags, rows):
    """L from the head's output, bag by bag and segment by segment, in float64."""
    output = head(bags.features, bags.valid, bags.areas)
    entropies, cosines, masses = [], [], []
    q = head.targets(bags.similarities)
    for b in rows:
        label = int(bags.labels[b])
        logits = output.logits[b].detach().double().numpy()
        entropies.append(-np.log(reference.softmax(logits)[label]))
        mass = 0.0
        for i in range(int(bags.valid[b].sum())):
            z = output.concepts[b, i].detach().double().numpy()
            cosines.append(reference.cosine(z, q[b, i].double().numpy()))
            if bags.background is not None:
                mass += np.mean(output.attention[b, i].tolist()) * bags.background[b, i].item()
        masses.append(mass)
    weighted = method.lambda_concept * np.mean(cosines)
    return np.mean(entropies) - weighted + method.lambda_background * np.mean(masses)


@pytest.mark.parametrize("head_kind", ["v1", "v2"])
@pytest.mark.parametrize("background", [0.0, 0.7])
def test_the_loss_is_its_parts(head_kind, background):
    method = SegMilCbm(head=head_kind, lambda_concept=0.3, lambda_background=background)
    bags = random_bags([3, 5, 1, 2])
    if background:
        shares = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) * bags.valid
        bags = replace(bags, background=shares)
    head = heads.new_head(method, DATA, bags, seed=0)
    rows = torch.tensor([2, 0, 3])
    loss = bag_loss(method, head, bags, rows, bags.features[rows], np.random.default_rng(0))
    assert loss.item() == pytest.approx(expected_loss(method, head, bags, rows.tolist()), abs=1e-5)


def test_segments_that_drop_out_are_in_no_part_of_the_loss():
    """As if they had never been in the bags."""
    method = SegMilCbm(segment_dropout=0.5, lambda_background=1.0)
    bags = random_bags([5, 4, 3])
    bags = replace(bags, background=torch.ones(3, 5) * torch.arange(5) / 5)
    head = heads.new_head(method, DATA, bags, seed=0)
    rows = torch.arange(3)
    loss = bag_loss(method, head, bags, rows, bags.features, np.random.default_rng(7))
    kept = without_dropped(bags.valid, 0.5, np.random.default_rng(7))
    assert (kept != bags.valid).any()
    fewer = replace(bags, bags=replace(bags.bags, valid=kept.numpy()))
    without = replace(method, segment_dropout=0.0)
    same = bag_loss(without, head, fewer, rows, fewer.features, np.random.default_rng(0))
    assert loss.item() == pytest.approx(same.item(), abs=1e-6)
    whole = bag_loss(without, head, bags, rows, bags.features, np.random.default_rng(0))
    assert loss.item() != pytest.approx(whole.item(), abs=1e-4)


def trained_by_hand(method, head, bags, seed):
    """Adam on the loss and half the weight decay times the squared weights; the rate falls as half a cosine;
    the stream gives a permutation for each epoch."""
    stream = rng(seed, "seg_mil_cbm batches")
    optimizer = torch.optim.Adam(head.parameters(), method.learning_rate)
    batches = -(-len(bags.labels) // method.batch_size)
    for step in range(method.epochs * batches):
        if step % batches == 0:
            order = torch.from_numpy(stream.permutation(len(bags.labels)))
        rows = order[step % batches * method.batch_size :][: method.batch_size]
        optimizer.param_groups[0]["lr"] = (
            method.learning_rate * (1 + math.cos(math.pi * step / (method.epochs * batches))) / 2
        )
        loss = bag_loss(method, head, bags, rows, bags.features[rows], np.random.default_rng(0))
        squared = sum(weight.square().sum() for weight in head.parameters())
        optimizer.zero_grad()
        (loss + method.weight_decay / 2 * squared).backward()
        optimizer.step()
    return head


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_a_head_is_trained_by_adam_in_the_order_that_the_seed_gives(weight_decay):
    method = SegMilCbm(epochs=3, batch_size=4, learning_rate=0.03, weight_decay=weight_decay)
    bags = random_bags([3, 5, 1, 2, 4, 4, 2, 5, 3, 1])
    data = SimpleNamespace(card=SimpleNamespace(classes=DATA.card.classes, vocabulary=lambda name: ()))
    begun = heads.new_head(method, DATA, bags, seed=3)
    fitted = fit_head(method, data, deepcopy(begun), bags, bags, 5, lambda step, **metrics: None)
    for name, value in dump_tensors(trained_by_hand(method, begun, bags, seed=5)).items():
        np.testing.assert_allclose(fitted.tensors[f"last/{name}"], value, rtol=1e-3, atol=1e-4, err_msg=name)


KINDS = [{"head": "v1"}, {"pooling": "mean"}, {"pooling": "max"}, {}]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_new_moments_change_the_layers_and_nothing_that_the_head_says(changes):
    """The features of the bags are moved and stretched; then they are standardised anew."""
    method, bags = SegMilCbm(**changes), random_bags([3, 5, 1, 2])
    head = heads.new_head(method, DATA, bags, seed=3)
    stretch, shift = torch.linspace(0.3, 3, 7), torch.linspace(-4, 2, 7)
    moved = replace(bags, features=(bags.features * stretch + shift) * bags.valid[..., None])
    before, weight = heads.run_head(head, moved), head.concept_layer.weight.clone()
    heads.rescale(head, moved)
    for name, value in vars(heads.run_head(head, moved)[1]).items():
        torch.testing.assert_close(value, getattr(before[1], name), atol=1e-5, rtol=1e-4)
    h = ((moved.features - head.mean) / head.std)[moved.valid].double()
    np.testing.assert_allclose(h.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(h.std(dim=0, correction=0), 1, atol=1e-5)
    torch.testing.assert_close(head.concept_layer.weight, weight * stretch, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scaling", ["layer_norm", "none"])
def test_a_head_that_reads_no_moments_stays_as_it_is(scaling):
    bags = random_bags([3, 5, 1, 2])
    head = heads.new_head(SegMilCbm(feature_scaling=scaling), DATA, bags, seed=3)
    before = dump_tensors(head)
    heads.rescale(head, replace(bags, features=bags.features * 2 + 1))
    for name, value in dump_tensors(head).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("changes", [{"head": "v1"}, {"pooling": "max"}, {"feature_scaling": "layer_norm"}])
def test_a_stored_head_gives_the_same_logits(changes):
    method = replace(SegMilCbm(area_exponent=0.7), **changes)
    bags = random_bags([3, 5, 1, 2])
    head = heads.new_head(method, DATA, bags, seed=3)
    fitted = Fitted({f"last/{name}": value for name, value in dump_tensors(head).items()})
    again = heads.load_head(method, fitted, "last")
    assert type(again) is type(head)
    logits = [heads.run_head(one, bags)[0] for one in (head, again)]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize(("lambda_concept", "means"), [(0.0, False), (10.0, True)])
def test_names_are_trusted_where_they_hold_on_validation_images(lambda_concept, means):
    """The z-scored targets are a linear map of the features, so a layer that is trained on them knows them."""
    stream = np.random.default_rng(0)
    train, val = (random_bags([4] * 60, n_concepts=20, seed=seed) for seed in range(2))
    weight = torch.from_numpy(
        stream.standard_normal((train.features.shape[-1], train.similarities.shape[-1]))
    ).float()
    train, val = (replace(bags, similarities=bags.features @ weight) for bags in (train, val))
    method = SegMilCbm(
        target="zscore", lambda_concept=lambda_concept, learning_rate=0.03, epochs=40, batch_size=20
    )
    names = tuple(f"concept {k}" for k in range(20))
    data = SimpleNamespace(card=SimpleNamespace(classes=DATA.card.classes, vocabulary=lambda name: names))
    head = heads.new_head(method, DATA, train, seed=3)
    fitted = fit_head(method, data, head, train, val, 5, lambda step, **metrics: None)
    concepts, targets = heads.run_head(head, val)[1].concepts, head.targets(val.similarities)
    z, q = (x[val.valid].double().numpy() for x in (concepts, targets))
    units, towards = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, q))
    cosines = [(np.roll(units, places, axis=1) * towards).sum(axis=1).mean() for places in range(20)]
    controls = [np.linalg.norm(towards.mean(axis=0)), *cosines[1:]]
    knows = fitted.facts["val_concept_cosine_above_controls"]
    assert knows == pytest.approx(cosines[0] - max(controls), abs=1e-5)
    correlations = np.corrcoef(units.T, towards.T)[:20, 20:]
    holds = [name for k, name in enumerate(names) if correlations[k].argmax() == k and correlations[k, k] > 0]
    assert trusted_names(fitted) == set(holds if means else ())
    assert len(holds) > 15 if means else len(holds) < 5
    assert trusted_names(Fitted({}, {})) == set()
