"""Final layers of concept bottleneck models: a point of a sparse path, a dense one, one-vs-rest.

N images, K concepts (standardised, unless said otherwise), C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.metrics.accuracy import average_accuracy, worst_group_accuracy

if TYPE_CHECKING:
    from components.studies.concept_bottleneck.final.sparse_path import SparseFit

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NONZERO = 1e-5  # a weight above it counts, as in LF-CBM's code
NEC_TARGETS = (5, 10, 15, 20, 25, 30)  # effective concepts per class, as in VLG-CBM
HELD_OUT = 0.1  # of the training images, by which a dense layer's training stops
SGD_PASSES = 10_000


@dataclass(frozen=True)
class FinalLayer:
    """weight (C, K), bias (C,): logits are concepts @ weight.T + bias."""

    weight: Floats
    bias: Floats

    def logits(self, concepts: Floats) -> Floats:
        """(N, C)."""
        return concepts @ self.weight.T + self.bias

    @property
    def nonzero_weights(self) -> int:
        """How many weights are above NONZERO in magnitude."""
        return int((np.abs(self.weight) > NONZERO).sum())

    @property
    def nec(self) -> float:
        """Number of effective concepts: non-zero weights per class
        (docs/methods/concept_bottlenecks.md, eq. 18)."""
        return self.nonzero_weights / len(self.bias)


def stored_fits(path: Mapping[str, NDArray[Any]]) -> "list[SparseFit]":
    """What the stage `sparse_path` wrote, fit by fit, from the largest lambda down."""
    from components.studies.concept_bottleneck.final.sparse_path import SparseFit

    names = ("lambda_sparse", "weight", "bias", "objective", "gap", "converged")
    return [
        SparseFit(float(level), weight, bias, float(objective), float(gap), bool(converged))
        for level, weight, bias, objective, gap, converged in zip(*(path[n] for n in names), strict=True)
    ]


def at_nec(fits: "list[SparseFit]", nec: float) -> tuple[FinalLayer, int]:
    """The final layer with `nec` non-zero weights per class, and the position of the fit it is made of:
    of the sparsest that has as many, the largest in magnitude over the whole matrix; the densest as it is,
    where none has as many."""
    from components.studies.concept_bottleneck.final.sparse_path import truncate

    n_weights = round(nec * len(fits[0].bias))
    for position, fit in enumerate(fits):
        if FinalLayer(fit.weight, fit.bias).nonzero_weights >= n_weights:
            return FinalLayer(*truncate(fit, n_weights)), position
    return FinalLayer(fits[-1].weight, fits[-1].bias), len(fits) - 1


def accuracies(layer: FinalLayer, concepts: Floats, labels: Ints, groups: Ints) -> dict[str, float]:
    """Accuracies of a final layer on the validation images with these concepts."""
    predictions = layer.logits(concepts).argmax(axis=1)
    return {
        "val_average_accuracy": average_accuracy(predictions, labels),
        "val_worst_group_accuracy": worst_group_accuracy(predictions, labels, groups),
    }


def first_best(values: Sequence[float]) -> int:
    """Position of the first largest value: on a path, the sparsest of the best. The last where all are NaN,
    as without validation images."""
    finite = [value for value in values if np.isfinite(value)]
    return values.index(max(finite)) if finite else len(values) - 1


def dense_layer(
    concepts: Floats, labels: Ints, n_classes: int, weight_decay: float, stream: np.random.Generator
) -> FinalLayer:
    """Multinomial regression without sparsity: from zeros on nine tenths of the images, as it was when the
    cross-entropy on the last tenth was least; weight_decay as in `fit_dense`."""
    from components.studies.concept_bottleneck.final.dense import fit_dense

    order = stream.permutation(len(labels))
    held_out, rest = np.split(order, [round(HELD_OUT * len(labels))])
    parts = (concepts[rest], labels[rest]), (concepts[held_out], labels[held_out])
    return FinalLayer(*fit_dense(*parts, n_classes, weight_decay))


def one_vs_rest(
    concepts: Floats, labels: Ints, n_classes: int, lambda_sparse: float, alpha: float, seed: int
) -> FinalLayer:
    """P-CBM's own final layer (docs/methods/concept_bottlenecks.md, eq. 21): a logistic regression per class
    against the rest, with the elastic net, by scikit-learn's SGDClassifier. A class without images is never
    predicted.

    Raises ValueError if the images are of one class only.
    """
    from sklearn.linear_model import SGDClassifier

    found = SGDClassifier(
        loss="log_loss",
        penalty="elasticnet",
        alpha=lambda_sparse,
        l1_ratio=alpha,
        max_iter=SGD_PASSES,
        random_state=seed,
    ).fit(concepts, labels)
    weight = np.zeros((n_classes, concepts.shape[1]), np.float32)
    bias = np.full(n_classes, -np.inf, np.float32)
    two = len(found.classes_) == 2  # scikit-learn then fits the second against the first
    weight[found.classes_] = np.concatenate([-found.coef_, found.coef_]) if two else found.coef_
    bias[found.classes_] = np.concatenate([-found.intercept_, found.intercept_]) if two else found.intercept_
    return FinalLayer(weight, bias)
