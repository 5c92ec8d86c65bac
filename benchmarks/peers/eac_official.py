"""Explain Any Concept, the official steps written plainly (docs/methods/explanations.md, "eac"): masked
pictures made in uint8 on the host, a surrogate by automatic differentiation, fresh coalitions for every
mask."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
Bits = NDArray[np.bool_]
Model = Callable[[Tensor], Tensor]  # normalised pixels (B, 3, H, W) -> logits (B, C)


def masked_probabilities(
    model: Model, image: NDArray[np.uint8], masks: Bits, coalitions: Bits, label: int, batch_size: int = 500
) -> Tensor:
    """docs/methods/explanations.md, eq. 2: of the class, of the union of each coalition's masks on
    black (m,)."""
    found = []
    with torch.no_grad():
        for start in range(0, len(coalitions), batch_size):
            pictures = []
            for coalition in coalitions[start : start + batch_size]:
                shown = masks[coalition].any(axis=0)
                picture = torch.from_numpy(image * shown[..., None]).permute(2, 0, 1).float() / 255
                pictures.append((picture - MEAN[:, None, None]) / STD[:, None, None])
            found.append(model(torch.stack(pictures)).softmax(dim=1)[:, label])
    return torch.cat(found)


def surrogate(head: nn.Linear, start: Tensor) -> nn.Sequential:
    """A linear layer with this start [A, a] (F, n + 1), and after it the head, which is frozen in
    that the optimiser does not have it."""
    layer = nn.Linear(start.shape[1] - 1, start.shape[0])
    with torch.no_grad():
        layer.weight.copy_(start[:, :-1])
        layer.bias.copy_(start[:, -1])
    return nn.Sequential(layer, head)


def train(
    model: nn.Sequential, coalitions: Bits, targets: Tensor, label: int, orders: list[list[Tensor]]
) -> None:
    """By docs/methods/explanations.md, eq. 4, on these batches of rows in each epoch."""
    bits = torch.from_numpy(coalitions).float()
    optimiser = torch.optim.SGD(model[0].parameters(), lr=0.008, momentum=0.9)
    for order in orders:
        for rows in order:
            optimiser.zero_grad()
            found = model(bits[rows]).softmax(dim=1)[:, label]
            nn.functional.binary_cross_entropy(found, targets[rows]).backward()
            optimiser.step()


def values(
    model: nn.Sequential, n: int, label: int, concepts: range, samples: int = 50_000, block: int = 50_000
) -> NDArray[np.float64]:
    """By docs/methods/explanations.md, eq. 12, the values of some of the n masks: all samples of a mask
    are one batch, unless `block` is smaller."""
    stream = np.random.default_rng(0)
    found = []
    with torch.no_grad():
        for concept in concepts:
            total = 0.0
            for _ in range(samples // block):
                bits = torch.from_numpy(stream.random((block, n)) < 0.5).float()
                for sign in (1, 0):
                    bits[:, concept] = sign
                    total += (2 * sign - 1) * float(model(bits).softmax(dim=1)[:, label].double().sum())
            found.append(total / samples)
    return np.array(found)
