"""The loss against torchvision, and the matching against all permutations."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

from components.toybirds.detector.losses import (
    ALPHA,
    CLASS,
    GAMMA,
    L1,
    OVERLAP,
    cost,
    focal,
    generalised_iou,
    match,
    set_loss,
)

TOKENS, QUERIES = 7, 5


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def some_boxes(n, generator):
    """Centre and size; inside, apart, nested."""
    return torch.rand(n, 4, generator=generator) * torch.tensor([1, 1, 0.5, 0.5]) + 0.01


def corners(boxes):
    return box_convert(boxes, "cxcywh", "xyxy")


def test_generalised_iou_is_torchvisions(generator):
    a, b = some_boxes(40, generator), some_boxes(30, generator)
    expected = generalized_box_iou(corners(a), corners(b))
    torch.testing.assert_close(generalised_iou(a[:, None], b[None]), expected)
    assert expected.min() < -0.3
    assert expected.max() > 0.3


def test_focal_loss_is_torchvisions(generator):
    logits = 3 * torch.randn(50, TOKENS, generator=generator)
    targets = (torch.rand(50, TOKENS, generator=generator) < 0.3).float()
    expected = sigmoid_focal_loss(logits, targets, alpha=ALPHA, gamma=GAMMA)
    torch.testing.assert_close(focal(logits, targets), expected)


@pytest.mark.parametrize("copies", [1, 2])
def test_matching_is_the_cheapest_of_all(generator, copies):
    costs = torch.randn(QUERIES, 2, generator=generator)
    queries, boxes = match(costs, copies)
    assert sorted(boxes.tolist()) == sorted([0, 1] * copies)
    assert len(set(queries.tolist())) == 2 * copies
    wanted = [0, 1] * copies
    best = min(
        sum(float(costs[q, g]) for q, g in zip(chosen, wanted, strict=True))
        for chosen in permutations(range(QUERIES), 2 * copies)
    )
    assert float(costs[queries, boxes].sum()) == pytest.approx(best)


def test_nothing_is_matched_where_nothing_is_true():
    queries, boxes = match(torch.zeros(QUERIES, 0), 4)
    assert len(queries) == len(boxes) == 0


def slow_loss(logits, boxes, truth, words, real):
    """The loss with the cheapest of all assignments, image by image, in torchvision's terms."""
    total, n = 0.0, sum(len(true) for true in truth)
    for i, (true, said) in enumerate(zip(truth, words, strict=True)):
        tokens = real[i].nonzero()[:, 0]
        values = []
        for chosen in permutations(range(QUERIES), len(true)):
            target = torch.zeros(QUERIES, TOKENS)
            for q, word in zip(chosen, said, strict=True):
                target[q] = word.float()
            focal_sum = sigmoid_focal_loss(
                logits[i][:, tokens], target[:, tokens], alpha=ALPHA, gamma=GAMMA
            ).sum()
            found = boxes[i][list(chosen)]
            overlap = generalized_box_iou(corners(found), corners(true)).diagonal()
            apart = (found - true).abs().sum()
            # what is minimised takes the focal term as a mean over the words of a box
            single = [
                (
                    sigmoid_focal_loss(logits[i][q, w], torch.ones(int(w.sum())), alpha=ALPHA, gamma=GAMMA)
                    - sigmoid_focal_loss(logits[i][q, w], torch.zeros(int(w.sum())), alpha=ALPHA, gamma=GAMMA)
                ).mean()
                for q, w in zip(chosen, said, strict=True)
            ]
            rank = CLASS * sum(single) + L1 * apart - OVERLAP * overlap.sum()
            values.append((float(rank), CLASS * focal_sum + L1 * apart + OVERLAP * (1 - overlap).sum()))
        total += min(values, key=lambda pair: pair[0])[1]
    return total / max(n, 1)


@pytest.mark.parametrize("numbers", [(2, 3), (1, 0), (0, 0)])
def test_loss_of_a_batch_is_that_of_a_slow_search(generator, numbers):
    logits = torch.randn(2, QUERIES, TOKENS, generator=generator)
    boxes = torch.stack([some_boxes(QUERIES, generator) for _ in range(2)])
    truth = [some_boxes(n, generator) for n in numbers]
    words = [torch.zeros(n, TOKENS, dtype=torch.bool) for n in numbers]
    for several in words:
        for g, word in enumerate(several):
            word[1 + g : 3 + g] = True  # two tokens
    real = torch.ones(2, TOKENS, dtype=torch.bool)
    real[1, 5:] = False
    logits[1, :, 5:] = -float("inf")  # as the network gives padding
    expected = slow_loss(logits, boxes, truth, words, real)
    logits.requires_grad_(True)
    loss = set_loss(logits, boxes, truth, words, real)
    torch.testing.assert_close(loss.detach(), expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert (gradient[1, :, 5:] == 0).all()


def test_cost_takes_long_and_short_phrases_alike(generator):
    logits = torch.zeros(1, TOKENS)
    truth = some_boxes(1, generator)
    one, three = torch.zeros(2, TOKENS, dtype=torch.bool)
    one[1], three[2:5] = True, True
    costs = cost(logits, truth, truth.repeat(2, 1), torch.stack([one, three]))
    np.testing.assert_allclose(*costs[0].numpy())
