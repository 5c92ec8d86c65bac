"""EAC's surrogate: a linear map from a coalition of masks into the classifier's own last layer, which stays.

n masks, m coalitions, C classes, F features. With coalitions z, the surrogate's logits are W (A z + a) + b,
where W (C, F), b (C,) are the classifier's last layer and A (F, n), a (F,) are trained
(docs/methods/explanations.md, eq. 3).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.images import blocks
from components.studies.explanations.shapley import Coalitions, Floats, Game
from components.studies.explanations.surrogate import Surrogate

MOMENTUM = 0.9
WIDE = 40.0  # a change of a logit beyond which float32 could have no exponential
WIDEST = 320.0  # the same of float64
AT_ONCE = 2**24  # logits of single coalitions, where no exponential can be had


@dataclass(frozen=True)
class Head:
    """A classifier's last layer, float32: weight (C, F), None where there is none and features are logits;
    bias (C,)."""

    weight: Tensor | None
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(C, k) without the bias, of features (F, k)."""
        return features if self.weight is None else self.weight @ features


class SoftmaxGame(Game):
    """The probability of class `label` under logits that are linear in the coalition.

    weight (C, n), bias (C,). The logits of all coalitions that differ from one in one mask are its own, plus
    or minus a column of the weight: so all marginal contributions cost three matrix products. Where a mask
    changes a logit by more than WIDEST they are taken one by one.
    """

    def __init__(self, weight: Tensor, bias: Tensor, label: int) -> None:
        wide = (weight - weight[label]).abs().max().item() if weight.numel() else 0.0
        self._dtype = torch.float64 if wide > WIDE else torch.float32
        self._widest = wide > WIDEST
        weight, bias = weight.to(self._dtype), bias.to(self._dtype)
        self._weight = (weight - weight[label]).T.contiguous()  # (n, C)
        self._bias = bias - bias[label]
        self._label = label
        self._steps = torch.cat([self._weight.exp(), (-self._weight).exp()]).T.contiguous()  # (C, 2 n)

    def __call__(self, coalitions: Coalitions) -> Floats:
        """(m,) in [0, 1]."""
        scores, largest = self._scores(self._bits(coalitions))
        return (torch.exp(-largest) / scores.sum(dim=1)).double().cpu().numpy()

    def marginals(self, coalitions: Coalitions) -> Floats:
        if self._widest:
            each = max(1, coalitions.shape[1] * len(self._bias))
            parts = blocks(len(coalitions), max(1, AT_ONCE // each))
            return np.concatenate([super(SoftmaxGame, self).marginals(coalitions[part]) for part in parts])
        bits = self._bits(coalitions)
        scores, largest = self._scores(bits)
        own = torch.exp(-largest)[:, None]  # the label's logit is 0
        now = own / scores.sum(dim=1, keepdim=True)
        joined, left = (own / (scores @ self._steps)).chunk(2, dim=1)
        return torch.where(bits > 0, now - left, joined - now).double().cpu().numpy()

    def _bits(self, coalitions: Coalitions) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(coalitions)).to(self._bias.device, self._dtype)

    def _scores(self, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Exponentials (m, C) of the logits less the largest of each row, and these (m,)."""
        logits = torch.addmm(self._bias, bits, self._weight)
        largest = logits.amax(dim=1)
        return logits.sub_(largest[:, None]).exp_(), largest


def fit_surrogate(
    coalitions: Coalitions,
    targets: NDArray[np.floating],
    head: Head,
    label: int,
    training: Surrogate,
    stream: np.random.Generator,
) -> SoftmaxGame:
    """Trains A and a on m coalitions, from the uniform start of torch's Linear.

    targets: probabilities of the class `label`, (m,); with the loss `all_classes`, of all classes, (m, C).
    """
    m, n = coalitions.shape
    device, n_classes = head.bias.device, len(head.bias)
    features = n_classes if head.weight is None else head.weight.shape[1]
    start = stream.uniform(-1, 1, (features, n + 1)) / np.sqrt(max(n, 1))
    ones = np.ones((m, 1), bool)
    bits = torch.from_numpy(np.concatenate([coalitions, ones], axis=1)).to(device, torch.float32)
    wanted = torch.from_numpy(np.asarray(targets, np.float32)).to(device)
    batches = (
        torch.from_numpy(rows).to(device)
        for _ in range(training.epochs)
        for rows in np.split(stream.permutation(m), range(training.batch_size, m, training.batch_size))
    )

    def gradient(weight: Tensor, rows: Tensor) -> Tensor:
        """Of the mean loss, by the logits' weight (C, n + 1)."""
        x = bits[rows]
        logits = torch.addmm(head.bias, x, weight.T)
        return _slope(logits, wanted[rows], label, training.loss).T @ (x / len(x))

    optimise = _sgd if training.optimiser == "sgd" else _adam
    with torch.inference_mode():
        weight = optimise(
            torch.from_numpy(start).to(device, torch.float32), head, gradient, batches, training.learning_rate
        )
        return SoftmaxGame(weight[:, :n], weight[:, n] + head.bias, label)


def _slope(logits: Tensor, wanted: Tensor, label: int, loss: str) -> Tensor:
    """Derivative (m, C) of each coalition's loss by its logits, which it overwrites."""
    if loss == "all_classes":
        return logits.softmax(dim=1) - wanted
    own = logits[:, label].clone()
    logits[:, label] = -torch.inf
    largest = logits.amax(dim=1)
    others = logits.sub_(largest[:, None]).exp_()
    total = others.sum(dim=1)
    found = (own - largest - total.log()).sigmoid()
    error = found - wanted
    if loss == "squared_error":
        error = 2 * error * found * (1 - found)
    slope = others.mul_((-error / total)[:, None])  # of the label's log odds, times the error
    slope[:, label] = error
    return slope


Gradient = Callable[[Tensor, Tensor], Tensor]


def _sgd(start: Tensor, head: Head, gradient: Gradient, batches: Iterable[Tensor], rate: float) -> Tensor:
    """The logits' weight (C, n + 1) after training [A, a] from `start` (F, n + 1): a step of A along -Wᵀ G is
    one of W A along -W Wᵀ G, so A itself, F wide, is never needed."""
    weight = head.logits(start).clone()
    kernel = None if head.weight is None else head.weight @ head.weight.T
    velocity = torch.zeros_like(weight)
    for rows in batches:
        slope = gradient(weight, rows)
        velocity.mul_(MOMENTUM).add_(slope if kernel is None else kernel @ slope)
        weight.add_(velocity, alpha=-rate)
    return weight


def _adam(start: Tensor, head: Head, gradient: Gradient, batches: Iterable[Tensor], rate: float) -> Tensor:
    """As `_sgd`; Adam's steps depend on A's own entries."""
    parameter = torch.nn.Parameter(start)
    optimiser = torch.optim.Adam([parameter], rate)
    for rows in batches:
        slope = gradient(head.logits(parameter), rows)
        parameter.grad = slope if head.weight is None else head.weight.T @ slope
        optimiser.step()
    return head.logits(parameter)
