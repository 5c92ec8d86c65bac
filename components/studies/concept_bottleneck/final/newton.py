"""Quadratic models of the cross-entropy of a linear layer, and the step that minimises model plus penalty.

Shapes: M features, L classes, K features of a class's working set. Steps are (L, M + 1), the bias last.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.studies.concept_bottleneck.final.loss import Float, SoftmaxLoss

MAX_BLOCK_ENTRIES = 50_000_000  # of all classes' Hessians together: 200 MB in float32
MOST = 0.8  # share of a class's curvature whose images make its Hessian
NEAR = 0.9  # a weight whose gradient is above this share of l1 may leave zero


class Model(Protocol):
    """A fixed approximation of the Hessian on some of the weights."""

    scale: Float  # (L, 1): a typical diagonal entry of each class

    def take(self, weight: Float) -> Float:
        """The weights it is about, the bias last."""

    def put(self, step: Float) -> Float:
        """(L, M + 1), zero elsewhere."""

    def __call__(self, step: Float) -> Float: ...


class KroneckerModel:
    """Mean over images of (diag p - p pᵀ), times the features' second moments: all weights, and how classes
    pull on each other on average. (The Kronecker factors of Martens & Grosse 2015.)"""

    def __init__(self, loss: SoftmaxLoss, scores: Float, moments: Float) -> None:
        p = loss.some_probabilities(scores)
        self.classes = np.diag(p.mean(axis=1)) - p @ p.T / p.shape[1]
        self.classes += np.diag(np.full(len(p), 1e-8, p.dtype))  # a class that is certain everywhere
        self.moments = moments
        self.scale = np.diag(self.classes)[:, None]

    def take(self, weight: Float) -> Float:
        return weight

    put = take

    def __call__(self, step: Float) -> Float:
        return self.classes @ (step @ self.moments)


class WorkingSetModel:
    """Each class's own Hessian, Σ p (1 - p) x xᵀ, on the weights that are or may become non-zero; no coupling
    between classes. From the images that carry most of the class's curvature."""

    def __init__(self, loss: SoftmaxLoss, scores: Float, working: NDArray[np.bool_]) -> None:
        p = loss.some_probabilities(scores)
        weights = p * (1 - p) / p.dtype.type(p.shape[1])
        size = int(working.sum(axis=1).max()) + 1
        n_classes, bias = len(p), working.shape[1]
        self.shape = (n_classes, bias + 1)
        self.columns = np.full((n_classes, size), bias)
        self.used = np.zeros((n_classes, size), bool)
        self.hessian = np.zeros((n_classes, size, size), p.dtype)
        for k in range(n_classes):
            columns = np.flatnonzero(working[k])
            slots = np.append(np.arange(len(columns)), size - 1)
            columns = np.append(columns, bias)
            images = np.argsort(-weights[k], kind="stable")
            carried = np.cumsum(weights[k, images], dtype=np.float64)
            images = images[: 1 + np.searchsorted(carried, MOST * carried[-1])]
            x = loss.x_some[np.ix_(columns, images)]
            x *= np.sqrt(weights[k, images] / p.dtype.type(MOST))
            self.columns[k, slots], self.used[k, slots] = columns, True
            self.hessian[k][np.ix_(slots, slots)] = x @ x.T
        diagonal = np.einsum("lkk->lk", self.hessian).sum(axis=1) / self.used.sum(axis=1)
        self.scale = np.maximum(diagonal, 1e-8)[:, None]

    def take(self, weight: Float) -> Float:
        return np.take_along_axis(weight, self.columns, axis=1) * self.used

    def put(self, step: Float) -> Float:
        out = np.zeros(self.shape, step.dtype)
        out[np.nonzero(self.used)[0], self.columns[self.used]] = step[self.used]
        return out

    def __call__(self, step: Float) -> Float:
        return (self.hessian @ step[:, :, None])[:, :, 0]


def with_memory(model: Model, pairs: list[tuple[Float, Float]], fitted: bool) -> Callable[[Float], Float]:
    """The model corrected by the last steps and the changes of gradient seen on them: BFGS in its compact
    form (Byrd, Nocedal & Schnabel 1994, eq. 2.17). fitted: the model is first scaled to those curvatures."""
    taken = [(model.take(step), model.take(change)) for step, change in pairs]
    taken = [(step, change) for step, change in taken if float(np.vdot(step, change)) > 0]
    if not taken:
        return model
    shape = taken[0][0].shape
    steps = np.stack([step.ravel() for step, _ in taken])
    changes = np.stack([change.ravel() for _, change in taken])
    images = np.stack([model(step.reshape(shape)).ravel() for step in steps])
    seen = steps.astype(np.float64) @ changes.T.astype(np.float64)
    modelled = steps.astype(np.float64) @ images.T.astype(np.float64)
    ratios = np.diag(seen) / np.maximum(np.diag(modelled), np.finfo(np.float64).tiny)
    gamma = float(np.exp(np.log(np.clip(ratios, 1e-3, 1e3)).mean())) if fitted else 1.0
    lower = np.tril(seen, -1)
    middle = np.block([[gamma * modelled, lower], [lower.T, -np.diag(np.diag(seen))]])
    inverse = np.linalg.pinv(middle, hermitian=True)
    basis = np.concatenate([steps.dtype.type(gamma) * images, changes])

    def product(step: Float) -> Float:
        correction = (inverse @ (basis @ step.ravel())).astype(step.dtype) @ basis
        return step.dtype.type(gamma) * model(step) - correction.reshape(shape)

    return product


def proximal_step(
    gradient: Float,
    weight: Float,
    product: Callable[[Float], Float],
    scale: Float,
    l1: float,
    l2: float,
    iterations: int,
    accuracy: float,
) -> Float:
    """The D that about minimises <gradient, D> + <D, product(D)>/2 + penalty(weight + D): FISTA with
    restarts, rows preconditioned by `scale`, until a step is `accuracy` times the first one."""
    number = weight.dtype.type
    step = extrapolated = np.zeros_like(weight)
    image = extrapolated_image = step
    momentum, first = 1.0, 0.0
    bound = _largest_curvature(product, scale, weight)
    for _ in range(iterations):
        size = (1 / (number(bound) * scale)).astype(weight.dtype)
        moved = weight + extrapolated - size * (gradient + extrapolated_image)
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - size * number(l1), 0) / (1 + size * number(l2))
        shrunk[:, -1] = moved[:, -1]
        new = shrunk - weight
        new_image = product(new)
        change = new - extrapolated
        length = float((change * change * scale).sum())
        curvature = float(np.vdot(change, new_image - extrapolated_image))
        if curvature > 1.0001 * bound * length > 0:
            bound = 1.1 * curvature / length
            continue
        first = first or length
        if float(np.vdot(change, (new - step) * scale)) < 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = number((momentum - 1) / following)
        extrapolated = new + ahead * (new - step)
        extrapolated_image = new_image + ahead * (new_image - image)
        step, image, momentum = new, new_image, following
        if length <= accuracy**2 * first:
            break
    return step


def _largest_curvature(product: Callable[[Float], Float], scale: Float, weight: Float) -> float:
    """An estimate from below: a few power iterations from a fixed start."""
    v = np.random.default_rng(0).standard_normal(weight.shape).astype(weight.dtype)
    length = 1.0
    for _ in range(4):
        v = product(v / weight.dtype.type(length)) / scale
        length = float((v * v * scale).sum()) ** 0.5 or 1.0
    return length
