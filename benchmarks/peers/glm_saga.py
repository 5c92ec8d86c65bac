"""GLM-SAGA (Wong, Santurkar & Madry 2021), the official steps written plainly: one lambda, no group penalty.

Each step forms the gradients of a batch as a (batch, class, feature) tensor, as the official code does;
`gemm=True` is the same algorithm with matrix products, to tell layout from algorithm.
"""

import torch
from torch import Tensor


def glm_saga(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    lambda_sparse: float,
    alpha: float = 0.99,
    *,
    epochs: int,
    step: float = 0.1,
    batch_size: int = 256,
    tolerance: float = 1e-4,
    gemm: bool = False,
) -> tuple[Tensor, Tensor, float]:
    """Weight (L, M), bias (L,), and how many epochs it took: it stops after the first batch that moves the
    weights by no more than `tolerance`, whose step is not taken. Zero start, batches from a fixed seed."""
    strength = lambda_sparse / alpha
    weight, bias = torch.zeros(n_classes, features.shape[1]), torch.zeros(n_classes)
    table = torch.zeros(len(features), n_classes)
    mean_weight, mean_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    onehot, order = torch.eye(n_classes), torch.Generator().manual_seed(0)
    seen = 0
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=order).split(batch_size):
            x = features[rows]
            error, old_error = (x @ weight.T + bias).softmax(1) - onehot[labels[rows]], table[rows]
            if gemm:
                new, old = error.T @ x / len(x), old_error.T @ x / len(x)
            else:
                new = (error[:, :, None] * x[:, None, :]).mean(0)
                old = (old_error[:, :, None] * x[:, None, :]).mean(0)
            change, change_bias = new - old, error.mean(0) - old_error.mean(0)
            moved = weight - step * (change + mean_weight)
            shrunk = moved.sign() * (moved.abs() - step * strength * alpha).clamp(min=0)
            next_weight = shrunk / (1 + step * strength * (1 - alpha))
            next_bias = bias - step * (change_bias + mean_bias)
            table[rows] = error
            mean_weight += change * (len(x) / len(features))
            mean_bias += change_bias * (len(x) / len(features))
            seen += len(x)
            length = ((next_weight - weight).square().sum() + (next_bias - bias).square().sum()).sqrt()
            if length <= tolerance:
                return weight, bias, seen / len(features)
            weight, bias = next_weight, next_bias
    return weight, bias, seen / len(features)
