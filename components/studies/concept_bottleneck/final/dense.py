"""Multinomial logistic regression by L-BFGS, stopped by held-out images
(docs/methods/concept_bottlenecks.md, eq. 19)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

Examples = tuple[NDArray[np.float32], NDArray[np.int64]]  # (N, K) and labels (N,)

LOOKS = 60  # at the held-out images, at most
PATIENCE = 5  # looks in a row without gain
ITERATIONS = 5  # of L-BFGS between two looks


def fit_dense(
    train: Examples, held_out: Examples, n_classes: int, weight_decay: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """weight (C, K) and bias (C,) at the look with the least cross-entropy on `held_out`; at the last one, if
    that is empty. Minimises the mean cross-entropy + weight_decay / 2 * the sum of the squared weights."""
    (x, y), (x_held_out, y_held_out) = (tuple(map(torch.from_numpy, part)) for part in (train, held_out))
    weight = torch.zeros(n_classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    best, best_loss, looks_without_gain = (weight, bias), float("inf"), 0
    for _ in range(LOOKS):
        optimizer.step(closure)
        with torch.no_grad():
            loss = float(cross_entropy(x_held_out @ weight.T + bias, y_held_out))
        if loss >= best_loss:
            looks_without_gain += 1
            if looks_without_gain == PATIENCE:
                break
            continue
        best, best_loss, looks_without_gain = (weight.detach().clone(), bias.detach().clone()), loss, 0
    return best[0].detach().numpy(), best[1].detach().numpy()
