"""The mean cross-entropy of a linear layer over all images, and a lower bound of the penalised optimum.

Shapes: N images, M features, L classes. Weights are (L, M + 1), the bias last; scores (L, N).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

ROWS = 4096  # images at once: L x ROWS stays in the cache
CURVATURE_ROWS = 10_000  # images that a Hessian is estimated from
SECTIONS = 10


@dataclass(frozen=True)
class Point:
    """The loss at one set of weights: its value, gradient (L, M + 1), and for every image the entropy of the
    predicted probabilities (nats) and the probability of the true class. float64."""

    value: float
    gradient: NDArray[np.float64]
    entropy: NDArray[np.float64]
    p_true: NDArray[np.float64]


class SoftmaxLoss:
    """(1/N) Σ_i CE(W x_i + b, y_i). Products in the features' type, sums over blocks in float64."""

    def __init__(self, features: Float, labels: NDArray[np.int64], n_classes: int) -> None:
        self.x, self.labels, self.n = features, labels, len(features)
        self.dtype = features.dtype
        self.frequency = np.bincount(labels, minlength=n_classes) / self.n
        self.mean = features.mean(axis=0, dtype=np.float64)
        sums = [features[labels == k].sum(axis=0, dtype=np.float64) for k in range(n_classes)]
        self.class_means = np.array(sums) / self.n  # mean of onehot(y) xᵀ, (L, M)
        self.some = slice(None, None, -(-self.n // CURVATURE_ROWS))
        rows = self.x[self.some]
        self.x_some = np.vstack([rows.T, np.ones((1, len(rows)), self.dtype)])  # (M + 1, rows)

    def zeros(self) -> Float:
        """All weights zero and the bias that is best then, centred."""
        weight = np.zeros((len(self.frequency), self.x.shape[1] + 1), self.dtype)
        bias = np.log(self.frequency)
        weight[:, -1] = bias - bias.mean()
        return weight

    def scores(self, weight: Float) -> Float:
        scores = weight[:, :-1] @ self.x.T
        scores += weight[:, -1:]
        return scores

    def value(self, scores: Float, direction: Float, step: float) -> float:
        """The loss at scores + step * direction."""
        total = 0.0
        for rows in self._blocks():
            z = scores[:, rows] + self.dtype.type(step) * direction[:, rows]
            z -= z.max(axis=0)
            true = z[self.labels[rows], np.arange(z.shape[1])]
            total += float((np.log(np.exp(z).sum(axis=0)) - true).sum(dtype=np.float64))
        return total / self.n

    def at(self, scores: Float) -> Point:
        gradient = np.zeros((len(scores), self.x.shape[1] + 1))
        entropy, p_true, total = np.empty(self.n), np.empty(self.n), 0.0
        for rows in self._blocks():
            z = scores[:, rows] - scores[:, rows].max(axis=0)
            p = np.exp(z)
            sums = p.sum(axis=0)
            p /= sums
            true = self.labels[rows], np.arange(z.shape[1])
            log_sums = np.log(sums)
            total += float((log_sums - z[true]).sum(dtype=np.float64))
            entropy[rows] = log_sums - np.einsum("ln,ln->n", p, z)
            p_true[rows] = p[true]
            p[true] -= 1
            gradient[:, :-1] += p @ self.x[rows]
            gradient[:, -1] += p.sum(axis=1, dtype=np.float64)
        return Point(total / self.n, gradient / self.n, entropy, p_true)

    def some_probabilities(self, scores: Float) -> Float:
        """Softmax of the images that the Hessians are estimated from, (L, rows)."""
        p = np.exp(scores[:, self.some] - scores[:, self.some].max(axis=0))
        p /= p.sum(axis=0)
        return p

    def _blocks(self) -> list[slice]:
        return [slice(start, min(start + ROWS, self.n)) for start in range(0, self.n, ROWS)]


def lower_bound(loss: SoftmaxLoss, point: Point, l1: float, l2: float) -> float:
    """A lower bound of min (1/N) Σ CE + l1 ‖W‖₁ + l2/2 ‖W‖²: the Fenchel dual at a feasible point.

    Any probabilities q (N, L) whose class sums are those of the labels give the bound
    mean entropy(q_i) - R*(V) with V = (1/N) Σ_i (onehot(y_i) - q_i) x_iᵀ and R*(V) = Σ (|V| - l1)₊² / (2 l2),
    which for l2 = 0 asks for |V| <= l1. The class sums are what the free bias asks for. From predictions p:

    * q = (1 - t) onehot + t p scales V by t, and its entropy needs p only through entropy(p) and p_true;
    * where the bias is not optimal yet, p misses the class sums by r = mean(p - onehot). Mixing in the same
      distribution m = π - r/κ for all images, κ = max(r/π), with weight s = tκ/(1 + tκ), repairs them
      exactly; the mixture's entropy is at least the mixture of the entropies.

    V is then t/(1 + tκ) · A with A = κ (mean onehot xᵀ - m x̄ᵀ) - gradient. The bound is concave in t: with
    l2 = 0 the largest t that keeps |V| <= l1 is taken, else golden sections look between it and 1.
    """
    residual = point.gradient[:, -1]
    kappa = max(0.0, float((residual / loss.frequency).max()))
    mixed = np.maximum(loss.frequency - residual / kappa, 0.0) if kappa > 0 else loss.frequency
    slope = kappa * (loss.class_means - np.outer(mixed, loss.mean)) - point.gradient[:, :-1]
    slope = np.abs(slope[np.abs(slope) > l1])
    mixed_entropy = -float(_xlogx(mixed).sum())
    entropy, miss = float(point.entropy.mean()), float(1 - point.p_true.mean())
    p_log_p = float(_xlogx(point.p_true).mean())

    def bound(t: float) -> float:
        tau, s = t / (1 + t * kappa), t * kappa / (1 + t * kappa)
        of_true = float(_xlogx(1 - t + t * point.p_true).mean())
        mean_entropy = t * (entropy + p_log_p) - float(_xlogx(np.array(t))) * miss - of_true
        excess = np.maximum(tau * slope - l1, 0.0)
        conjugate = float((excess**2).sum()) / (2 * l2) if l2 > 0 else 0.0
        return (1 - s) * mean_entropy + s * mixed_entropy - conjugate

    feasible = 1.0
    if slope.size:
        tau = min(l1 / float(slope.max()), 1 / (1 + kappa))
        feasible = tau / (1 - tau * kappa)
    best = max(bound(feasible), bound(1.0)) if l2 > 0 else bound(feasible)
    low, high = feasible, 1.0
    for _ in range(SECTIONS if l2 > 0 and feasible < 1 else 0):
        left, right = high - 0.618 * (high - low), low + 0.618 * (high - low)
        at_left, at_right = bound(left), bound(right)
        best = max(best, at_left, at_right)
        low, high = (low, right) if at_left > at_right else (left, high)
    return best


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.maximum(x, 1e-300))
