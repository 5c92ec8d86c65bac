"""The residual of PCBM-h: a linear layer on the embedding that corrects a frozen model's logits
(docs/methods/concept_bottlenecks.md, eq. 22)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

LEARNING_RATE = 0.01
BATCH = 64


def fit_residual(
    embeddings: NDArray[np.float32],
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    kappa: float,
    epochs: int,
    stream: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """weight (C, D) and bias (C,) of r, where the model's logits are the frozen ones (N, C) + r(embedding),
    embeddings (N, D): by Adam from zeros, on the mean cross-entropy + kappa * the mean of the squared
    weights. Without an epoch r is 0, and the model the frozen one. `stream` orders the batches."""
    x, frozen, y = (torch.tensor(part) for part in (embeddings, logits, labels))
    weight = torch.zeros(frozen.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(frozen.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=LEARNING_RATE)
    for _ in range(epochs):
        for rows in torch.from_numpy(stream.permutation(len(x))).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(frozen[rows] + x[rows] @ weight.T + bias, y[rows])
            (loss + kappa * weight.square().mean()).backward()
            optimizer.step()
    return weight.detach().numpy(), bias.detach().numpy()
