"""Deletion and insertion of segments against float64, one subset of a bag at a time, and by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from components.models.networks.network import dump_tensors
from components.studies.seg_mil import faithfulness as mil_faithfulness
from components.studies.seg_mil.faithfulness import (
    MODES,
    Curve,
    curve,
    faithfulness,
    order_of,
    ranking,
    summary,
)
from components.studies.seg_mil.head import of_class
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.heads import run_head
from tests.planted_bags import bags_of, head_of, reading_head

WIDTH, SIZE = 5, 7
every_mode = pytest.mark.parametrize("mode", MODES)
every_head = pytest.mark.parametrize("kind", [MilV1, MilV2])


def values(metrics):
    return {(m.name.removeprefix("faithfulness_"), m.group): m.value for m in metrics}


def softmax(x, axis=0):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def parts(head, features, areas):
    """Evidence (n, C) and offset (C,) of one bag, in float64: docs/methods/seg_mil.md, eqs. 6 and 11."""
    w = {name: value.astype(np.float64) for name, value in dump_tensors(head).items()}
    h = features.numpy().astype(np.float64)
    z = h @ w["concept_layer.weight"].T + w["concept_layer.bias"]
    hidden = np.tanh(h @ w["attention_hidden.weight"].T + w["attention_hidden.bias"])
    attention = softmax(hidden @ w["attention_score.weight"].T)
    eta = np.ones(len(h))
    if isinstance(head, MilV2):
        eta = np.maximum(areas.numpy().astype(np.float64), 0.01) ** -0.25
    weights = attention * (eta / eta.mean())[:, None]
    return weights * (z @ w["classifier.weight"].T), (weights * w["classifier.bias"]).sum(axis=0)


def brute(head, bags, row, mode, kept):
    """Logits of the bag of which only the segments `kept` stay."""
    n = bags.bags.valid[row].sum()
    if mode == "zero":
        embeddings = torch.zeros_like(bags.features[row, :n])
        embeddings[kept] = bags.features[row, kept]
        evidence, offset = parts(head, embeddings, bags.areas[row, :n])
        return evidence.sum(axis=0) + offset
    if len(kept) == 0:
        return parts(head, bags.features[row, :n], bags.areas[row, :n])[1]
    evidence, offset = parts(head, bags.features[row, kept], bags.areas[row, kept])
    return evidence.sum(axis=0) + offset


@every_mode
@every_head
def test_curves_against_every_subset_in_float64(kind, mode):
    counts = [7, 1, 4, 6, 2, 7]
    features = np.random.default_rng(3).standard_normal((len(counts), SIZE, WIDTH))
    bags = bags_of(features, counts, np.zeros(len(counts)))
    head = head_of(kind, WIDTH, 4, 3)
    logits, output = run_head(head, bags)
    order = order_of(torch.from_numpy(np.random.default_rng(4).random((len(counts), SIZE))), bags.valid)
    found = curve(head, bags, output, order, mode)
    for row, n in enumerate(counts):
        y = int(logits[row].argmax())
        for k in range(SIZE + 1):
            first, rest = order[row, : min(k, n)].numpy(), order[row, k:n].numpy()
            alone, without = (brute(head, bags, row, mode, kept) for kept in (first, rest))
            assert found.inserted[row, k] == pytest.approx(softmax(alone)[y], abs=1e-5)
            assert found.deleted[row, k] == pytest.approx(softmax(without)[y], abs=1e-5)
            assert found.inserted_class[row, k] == alone.argmax()
            assert found.deleted_class[row, k] == without.argmax()


def order_by_hand(head, bags, row, y, group):
    """Positions of the bag's segments by what the head says of class y, best first, in float64."""
    n = bags.bags.valid[row].sum()
    evidence, _ = parts(head, bags.features[row, :n], bags.areas[row, :n])
    if group == "attention":
        w = {name: value.astype(np.float64) for name, value in dump_tensors(head).items()}
        h = bags.features[row, :n].numpy().astype(np.float64)
        scores = np.tanh(h @ w["attention_hidden.weight"].T + w["attention_hidden.bias"])
        scores = (scores @ w["attention_score.weight"].T)[:, y if isinstance(head, MilV2) else 0]
    else:
        scores = np.maximum(evidence[:, y], 0) if (evidence[:, y] > 0).any() else np.abs(evidence[:, y])
    return np.argsort(-scores, kind="stable")


@every_mode
@every_head
@pytest.mark.parametrize("group", ["all", "attention"])
def test_segments_go_in_the_order_of_the_predicted_class(kind, mode, group):
    """Of every bag's own class, and not of another one: the areas against float64, a bag at a time."""
    counts = [7, 4, 6, 5, 7, 6, 7, 5]
    features = 3 * np.random.default_rng(8).standard_normal((len(counts), SIZE, WIDTH))
    bags, head = bags_of(features, counts, np.zeros(len(counts))), head_of(kind, WIDTH, 4, 3)
    found = values(faithfulness(head, bags, "test"))
    inserted, deleted, classes = [], [], set()
    for row, n in enumerate(counts):
        y = int(brute(head, bags, row, mode, np.arange(n)).argmax())
        classes.add(y)
        order = order_by_hand(head, bags, row, y, group)
        steps = [int(np.floor(s * n / 10 + 0.5)) for s in range(11)]
        inserted.append([softmax(brute(head, bags, row, mode, order[:k]))[y] for k in steps])
        deleted.append([softmax(brute(head, bags, row, mode, order[k:]))[y] for k in steps])
    assert len(classes) > 1
    for name, heights in (("insertion", inserted), ("deletion", deleted)):
        area = np.mean([sum(a + b for a, b in pairwise(curve)) / 20 for curve in heights])
        assert found[f"{name}_auc_{mode}", group] == pytest.approx(area, abs=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def planted(n_bags, n, strength=8.0, place=3):
    """Bags of n segments, of which one says the label: its logit is the strength, all others are 0."""
    labels = np.arange(n_bags) % 2
    features = np.zeros((n_bags, n, 3))
    features[np.arange(n_bags), place, labels] = strength
    return bags_of(features, [n] * n_bags, labels)


def test_curves_of_one_segment_that_decides_by_hand():
    """Attention is uniform, so the whole bag's margin is 8 / 10, and without the segment it is 0. Dropped to
    k segments with it, the margin is 8 / k."""
    found = values(faithfulness(reading_head(), planted(4, 10), "test"))
    whole, nothing = sigmoid(0.8), 0.5
    assert found["deletion_auc_zero", "all"] == pytest.approx((whole / 2 + 9.5 * nothing) / 10)
    assert found["insertion_auc_zero", "all"] == pytest.approx((nothing / 2 + 9.5 * whole) / 10)
    grown = [nothing, *(sigmoid(8 / k) for k in range(1, 11))]
    assert found["insertion_auc_drop", "all"] == pytest.approx((sum(grown) - (grown[0] + grown[-1]) / 2) / 10)
    assert found["deletion_auc_drop", "all"] == pytest.approx((whole / 2 + 9.5 * nothing) / 10)
    assert found["top_1_insertion_zero", "all"] == found["top_1_insertion_drop", "all"] == 1
    # without it both logits are equal, and of equal logits the first class wins: the second's bags flip
    assert found["top_5_deletion_zero", "all"] == found["top_5_deletion_drop", "all"] == 0.5
    # with k = place + 1 segments in the order of the bag it is there
    late = [nothing if k < 4 else whole for k in range(11)]
    for control in ("attention", "score"):  # all equal, and descending in the bag
        area = (sum(late) - (late[0] + late[-1]) / 2) / 10
        assert found["insertion_auc_zero", control] == pytest.approx(area)
    assert found["deletion_auc_zero", "random"] > found["deletion_auc_zero", "all"]
    assert found["insertion_auc_zero", "random"] < found["insertion_auc_zero", "all"]


def test_a_bag_of_one_segment_goes_over_at_half():
    """It is there in the steps 5 to 10 of an insertion, and in 0 to 4 of a deletion."""
    for segments in (None, np.full((4, 1), -1)):  # a true segment, and the whole image in its place
        bags = planted(4, 1, place=0)
        if segments is not None:
            bags.bags.segments[:] = segments
        found = values(faithfulness(reading_head(), bags, "test"))
        whole, nothing = sigmoid(8.0), 0.5
        for mode in MODES:
            for group in ("all", "attention", "area", "score", "random"):
                assert found[f"insertion_auc_{mode}", group] == pytest.approx(0.45 * nothing + 0.55 * whole)
                assert found[f"deletion_auc_{mode}", group] == pytest.approx(0.45 * whole + 0.55 * nothing)
                assert found[f"top_1_insertion_{mode}", group] == 1
                assert found[f"top_5_deletion_{mode}", group] == 0.5


def test_the_number_of_segments_of_a_step_is_rounded():
    """The probability is made k here, so the area is that under the numbers of segments."""
    for n in (15, 4, 10, 1):
        k, classes = np.arange(16.0)[None], np.zeros((1, 16), np.int64)
        steps = [np.floor(s * n / 10 + 0.5) for s in range(11)]
        found = summary(Curve(k, classes, k, classes), np.zeros(1, np.int64), np.array([n]))
        assert found["deletion_auc"] == pytest.approx(sum(a + b for a, b in pairwise(steps)) / 20)


def test_segments_are_ranked_by_positive_evidence_or_else_by_size():
    evidence = torch.tensor([[-5.0, 2.0, 0.5, -1.0], [-5.0, -2.0, -7.0, 9.0], [1.0, 1.0, 0.0, 3.0]])
    valid = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    scores = ranking(evidence, valid)
    assert scores.tolist() == [[0, 2, 0.5, 0], [5, 2, 7, 9], [1, 1, 0, 3]]
    assert order_of(scores, valid).tolist() == [[1, 2, 0, 3], [2, 0, 1, 3], [3, 0, 1, 2]]


@pytest.mark.parametrize("control", ["attention", "area", "score"])
def test_a_control_that_agrees_with_the_evidence_has_its_curves(control):
    """Evidence falls with the place in the bag turned round; so does the control, and the others do not."""
    n, bags = 6, 8
    strength = np.random.default_rng(0).permuted(np.tile(np.arange(1.0, n + 1), (bags, 1)), axis=1)
    features = np.zeros((bags, n, 3))
    features[..., 0] = strength
    features[..., 2] = strength if control == "attention" else 0
    given = {f"{control}s": strength / 10} if control != "attention" else {}
    found = values(
        faithfulness(
            reading_head(1.0 if control == "attention" else 0.0),
            bags_of(features, [n] * bags, np.zeros(bags), **given),
            "val",
        )
    )
    for name in ("insertion_auc_zero", "deletion_auc_drop", "insertion_auc_drop"):
        assert found[name, control] == pytest.approx(found[name, "all"], abs=1e-12)
        assert abs(found[name, "random"] - found[name, "all"]) > 1e-3
    others = {"attention", "area", "score"} - {control}
    assert all(
        abs(found["insertion_auc_zero", o] - found["insertion_auc_zero", "all"]) > 1e-4 for o in others
    )


@every_head
def test_evidence_orders_better_than_chance_in_a_trained_head(kind):
    """Property 10 of docs/methods/seg_mil.md, "Checked properties": the label shows in one segment of
    each bag, the others are noise."""
    stream = np.random.default_rng(5)
    n, labels = 200, np.random.default_rng(6).integers(0, 2, 200)
    counts = stream.integers(2, 13, n)
    features = stream.standard_normal((n, 12, 6))
    place = (stream.random(n) * counts).astype(int)
    features[np.arange(n), place, 0] = 4 * labels - 2
    features[..., 1] = 0
    features[np.arange(n), place, 1] = 3
    bags = bags_of(features, counts, labels)
    head = head_of(kind, 6, 4, 2).requires_grad_(True)
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(120):
        loss = torch.nn.functional.cross_entropy(
            head(bags.features, bags.valid, bags.areas).logits, torch.from_numpy(labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits, output = run_head(head, bags)
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    best = ranking(of_class(output.evidence, torch.from_numpy(logits.argmax(axis=1))), bags.valid).argmax(
        dim=1
    )
    assert (best.numpy() == place).mean() > 0.8
    found = values(faithfulness(head, bags, "test"))
    for mode in MODES:
        assert found[f"deletion_auc_{mode}", "all"] < found[f"deletion_auc_{mode}", "random"] - 0.05
        assert found[f"insertion_auc_{mode}", "all"] > found[f"insertion_auc_{mode}", "random"] + 0.05
        assert found[f"top_1_insertion_{mode}", "all"] > found[f"top_1_insertion_{mode}", "random"]
        assert found[f"top_5_deletion_{mode}", "all"] > found[f"top_5_deletion_{mode}", "random"]


@every_head
def test_padding_changes_nothing(kind):
    features = np.random.default_rng(0).standard_normal((5, SIZE, WIDTH))
    counts = [2, 7, 1, 5, 3]
    padded = np.concatenate([features, np.full((5, 4, WIDTH), 100.0)], axis=1)
    areas = np.random.default_rng(1).uniform(0.02, 0.5, (5, SIZE + 4))
    scores = -np.sort(-np.random.default_rng(2).random((5, SIZE + 4)), axis=1)
    found = [
        values(
            faithfulness(
                head_of(kind, WIDTH, 4, 3),
                bags_of(f, counts, np.zeros(5), areas=areas[:, : f.shape[1]], scores=scores[:, : f.shape[1]]),
                "test",
            )
        )
        for f in (features, padded)
    ]
    assert len(found[0]) == 4 * len(MODES) * 5
    for name, value in found[0].items():
        if name[1] != "random":
            assert found[1][name] == pytest.approx(value, abs=1e-6)


def test_of_a_large_split_the_same_images_are_drawn_and_none_is_none(monkeypatch):
    monkeypatch.setattr(mil_faithfulness, "MOST_IMAGES", 3)
    features = np.random.default_rng(0).standard_normal((9, SIZE, 3))
    bags = bags_of(features, [SIZE] * 9, np.zeros(9))
    seen = []
    head = reading_head()
    monkeypatch.setattr(
        mil_faithfulness, "run_head", lambda head, b: seen.append(b.bags.ids.tolist()) or run_head(head, b)
    )
    assert values(faithfulness(head, bags, "test")) == values(faithfulness(head, bags, "test"))
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3
    assert set(seen[0]) <= set(bags.bags.ids.tolist())
    faithfulness(head, bags, "val")
    assert seen[2] != seen[0]
    assert faithfulness(head, bags_of(features[:0], [], []), "test") == []
