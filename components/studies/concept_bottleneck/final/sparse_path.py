"""The final sparse layer: elastic-net multinomial logistic regression along a path, with a certificate.

    min over W (L, M), b (L)   (1/N) Σ_i CE(W x_i + b, y_i) + λ [α ‖W‖₁ + ½ (1 - α) ‖W‖²]

with λ = lambda_sparse / α: the objective of GLM-SAGA (Wong, Santurkar & Madry 2021) at the value that LF-CBM
passes. The bias is not penalised.

Method: proximal Newton steps on two models of the Hessian, corrected by the curvature seen on the last steps.
Far from the optimum and on every fourth step it is the Kronecker model (all weights, classes coupled on
average), near it each class's own Hessian on a working set. A Hessian is estimated from 10,000 images;
gradient, line search and certificate see all. A step costs two products of the features with (L, M) weights.

Certificate: at every step the predictions give a dual feasible point (`lower_bound` has the derivation): the
objective is at most `gap` times itself above the optimum. Sums are float64, products have the features' type.
The gap of float32 predictions stops falling at 1e-7 to 1e-4, whatever the objective has reached: rounding
moves it by the first power, the objective by the second. What float32 does not certify then is certified in
float64: the weights stay, their objective is computed anew, and the bound is that of float64 steps that begin
at them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.studies.concept_bottleneck.final.loss import Float, SoftmaxLoss, lower_bound
from components.studies.concept_bottleneck.final.newton import (
    MAX_BLOCK_ENTRIES,
    NEAR,
    KroneckerModel,
    Model,
    WorkingSetModel,
    proximal_step,
    with_memory,
)

MEMORY = 8  # last steps whose curvature is kept
NEAR_OPTIMUM = 0.5  # relative gap from which a working set pays
COUPLED = 4  # near the optimum, one step in so many is made on the Kronecker model, which couples classes
REFRESH = 5, 8  # steps after which the Kronecker and the working-set model are made anew
RECOMPUTE = 20  # steps after which the scores, else summed up, are computed from the weights
ROUNDED = 1e-3  # relative gap below which it may be float32 that keeps it from falling
NEVER = 100.0  # how far below the smallest bias of a class with images the bias of one without lies


@dataclass(frozen=True)
class SparseFit:
    """A point of the path.

    lambda_sparse: as LF-CBM passes it. weight (L, M), bias (L,): float32; the biases of classes with images
    have mean zero. objective: at the solution. gap: certified relative duality gap, (objective - lower bound
    of the optimum) / objective, >= 0; of these very weights in float64 where float32 certified no more.
    converged: gap <= tolerance.
    """

    lambda_sparse: float
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    objective: float
    gap: float
    converged: bool


def lambda_max(features: Float, labels: NDArray[np.int64], n_classes: int, alpha: float = 0.99) -> float:
    """The smallest lambda_sparse with all weights zero: max |Xᵀ(Y - Ȳ)| / N (GLM-SAGA's before it divides by
    alpha, so the same for every alpha)."""
    x, y, present = _checked(features, labels, n_classes, alpha)
    loss = SoftmaxLoss(x, y, len(present))
    return float(np.abs(loss.class_means - np.outer(loss.frequency, loss.mean)).max())


def elastic_net_path(
    features: Float,
    labels: NDArray[np.int64],
    n_classes: int,
    lambdas: list[float] | NDArray[np.floating],
    alpha: float = 0.99,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> list[SparseFit]:
    """One fit for each lambda_sparse, each started from the one before.

    features (N, M): standardised, float32 (float64 is computed in float64); a constant feature gets weight 0.
    labels (N,): in [0, n_classes). A class without images gets weight zero and a bias that makes its
    probability vanish; the optimum would be minus infinity. lambdas: positive, descending.
    tolerance: of the gap. max_iterations: for each lambda; what has not converged has the gap it reached.

    Raises ValueError for lambdas that ascend or are not positive (zero has no certificate and, on separable
    images, no solution: that is the dense layer's), for alpha outside (0, 1], for features that are not
    finite, for labels out of range and for no images.
    """
    x, y, present = _checked(features, labels, n_classes, alpha)
    values = np.asarray(lambdas, np.float64)
    if not np.all(values > 0) or np.any(np.diff(values) > 0):
        raise ValueError(f"lambdas must be positive and descending, not {values.tolist()}")
    loss = SoftmaxLoss(x, y, len(present))
    solver = _Solver(loss, loss.zeros())
    fits = []
    for value in values:
        l1, l2 = value, value * (1 - alpha) / alpha
        gap = solver.solve(l1, l2, tolerance, max_iterations)
        objective = solver.objective
        if tolerance < gap <= ROUNDED and x.dtype == np.float32:
            objective, gap = _certified(solver, l1, l2, tolerance, max_iterations)
        weight = np.zeros((n_classes, x.shape[1]), np.float32)
        bias = np.full(n_classes, solver.weight[:, -1].min() - NEVER, np.float32)
        weight[present], bias[present] = solver.weight[:, :-1], solver.weight[:, -1]
        fits.append(SparseFit(float(value), weight, bias, objective, gap, gap <= tolerance))
    return fits


def _certified(
    solver: "_Solver", l1: float, l2: float, tolerance: float, max_iterations: int
) -> tuple[float, float]:
    """In float64 the objective of the solver's weights, and its relative gap to the bound that steps from
    there reach."""
    loss = solver.loss
    exact = SoftmaxLoss(loss.x.astype(np.float64), loss.labels, len(loss.frequency))
    polished = _Solver(exact, solver.weight.astype(np.float64))
    objective = polished.point.value + _penalty(polished.weight, l1, l2)
    lower = (1 - polished.solve(l1, l2, tolerance / 2, max_iterations)) * polished.objective
    return objective, max(0.0, objective - lower) / objective


def truncate(fit: SparseFit, n_weights: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias with only the n_weights largest |w| of the whole matrix kept, the earlier of equal ones
    first; the bias stays and nothing is fitted again (VLG-CBM's number of effective concepts, NEC: n_weights
    = NEC · L)."""
    if n_weights < 0:
        raise ValueError(f"n_weights must be at least 0, not {n_weights}")
    order = np.argsort(-np.abs(fit.weight), axis=None, kind="stable")
    weight = fit.weight.copy()
    weight.ravel()[order[n_weights:]] = 0
    return weight, fit.bias.copy()


class _Solver:
    """Where the path has come to. Penalties: l1 ‖W‖₁ + l2/2 ‖W‖²."""

    def __init__(self, loss: SoftmaxLoss, weight: Float) -> None:
        self.loss = loss
        self.weight = weight
        self.scores = loss.scores(self.weight)
        self.point = loss.at(self.scores)
        self.moments = loss.x_some @ loss.x_some.T / loss.x_some.dtype.type(loss.x_some.shape[1])
        self.pairs: list[tuple[Float, Float]] = []  # steps, and the change of gradient on each
        self.kronecker: KroneckerModel | None = None
        self.working_set: WorkingSetModel | None = None
        self.working = np.zeros(loss.class_means.shape, bool)
        self.steps = self.kronecker_age = self.working_age = 0
        self.objective = 0.0

    def solve(self, l1: float, l2: float, tolerance: float, max_iterations: int) -> float:
        """The relative gap that is reached."""
        lower, failures = -np.inf, 0
        for iteration in range(max_iterations + 1):
            self.objective = self.point.value + _penalty(self.weight, l1, l2)
            lower = max(lower, lower_bound(self.loss, self.point, l1, l2))
            gap = max(0.0, self.objective - lower) / self.objective if self.objective > 0 else 0.0
            if gap <= tolerance or failures == 2 or iteration == max_iterations:
                break
            failures = 0 if self._step(l1, l2, gap) else failures + 1
        return float(gap)

    def _step(self, l1: float, l2: float, gap: float) -> bool:
        """False where rounding leaves no step that lowers the objective."""
        model = self._model(l1, gap)
        near = isinstance(model, WorkingSetModel)
        product = with_memory(model, self.pairs, fitted=not near)
        number = self.loss.dtype.type
        step = model.put(
            proximal_step(
                model.take(self.point.gradient.astype(number)),
                model.take(self.weight),
                product,
                model.scale,
                l1,
                l2,
                iterations=100 if near else min(100, 40 + 10 * self.steps),
                accuracy=0.05 if near else 0.2,
            )
        )
        step[:, -1] -= step[:, -1].mean()  # adding the same to all biases changes nothing
        self.steps += 1
        direction = self.loss.scores(step)
        before = _penalty(self.weight, l1, l2)
        slope = float(np.vdot(self.point.gradient, step)) + _penalty(self.weight + step, l1, l2) - before
        rounding = 4 * float(np.finfo(number).eps) * self.objective
        length = 1.0
        while (
            self.loss.value(self.scores, direction, length)
            + _penalty(self.weight + number(length) * step, l1, l2)
            > self.objective + 1e-3 * length * slope + rounding
        ):
            length /= 2
            if length < 1e-4:
                self.pairs.clear()
                return False
        moved, old = number(length) * step, self.point.gradient
        self.weight = self.weight + moved
        if self.steps % RECOMPUTE:
            self.scores += number(length) * direction
        else:
            self.scores = self.loss.scores(self.weight)
        self.point = self.loss.at(self.scores)
        change = (self.point.gradient - old).astype(number)
        if float(np.vdot(moved, change)) > 0:
            self.pairs = [*self.pairs, (moved, change)][-MEMORY:]
        return True

    def _model(self, l1: float, gap: float) -> Model:
        if gap < NEAR_OPTIMUM and self.steps % COUPLED:
            pull = np.abs(self.point.gradient[:, :-1])
            needed = (self.weight[:, :-1] != 0) | (pull > l1)
            new = int((needed & ~self.working).sum()) > 0.02 * needed.sum()
            if self.working_set is None or new or self.steps >= self.working_age + REFRESH[1]:
                self.working = needed | (pull > NEAR * l1)
                self.working_age = self.steps
                size = int(self.working.sum(axis=1).max()) + 1
                few = len(needed) * size**2 <= MAX_BLOCK_ENTRIES
                self.working_set = WorkingSetModel(self.loss, self.scores, self.working) if few else None
            if self.working_set is not None:
                return self.working_set
        if self.kronecker is None or self.steps < 3 or self.steps >= self.kronecker_age + REFRESH[0]:
            self.kronecker = KroneckerModel(self.loss, self.scores, self.moments)
            self.kronecker_age = self.steps
        return self.kronecker


def _penalty(weight: Float, l1: float, l2: float) -> float:
    w = weight[:, :-1].astype(np.float64)
    return l1 * float(np.abs(w).sum()) + l2 / 2 * float(np.vdot(w, w))


def _checked(
    features: Float, labels: NDArray[np.int64], n_classes: int, alpha: float
) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    """Features in C order, labels counted over the classes with images, and those classes."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be in (0, 1], not {alpha}")
    if features.ndim != 2 or len(features) != len(labels) or len(features) == 0:
        raise ValueError(
            f"features {features.shape} and labels {labels.shape} are not N images of one or more"
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be in [0, {n_classes}), not {labels.min()} to {labels.max()}")
    dtype = np.float64 if features.dtype == np.float64 else np.float32
    x: Float = np.ascontiguousarray(features, dtype)
    if not np.isfinite(x).all():
        raise ValueError("features must be finite: a feature of zero variance is zero once standardised")
    present, counted = np.unique(labels, return_inverse=True)
    return x, counted.astype(np.int64), present
