"""Last layers fitted to equally large groups: the regressions of deep feature reweighting (arXiv 2204.02937).

n images, F features, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from components.data.columns import Split
from components.data.images import DataError
from components.identity import rng
from components.method import Fitted, Report
from components.metrics.accuracy import worst_group_accuracy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Layer = tuple[Floats, Floats]  # weight (C, F), bias (C,)

INVERSE_STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # scikit-learn's C; the authors' list
PASSES = 1000


@dataclass(frozen=True)
class Images:
    """Features (n, F), labels (n,) and groups (n,) of some images."""

    features: Floats
    labels: Ints
    groups: Ints

    def rows(self, chosen: Ints) -> "Images":
        """Those of these images."""
        return Images(self.features[chosen], self.labels[chosen], self.groups[chosen])

    def scaled(self, scaler: StandardScaler) -> "Images":
        """With their features standardised; of no images none, which the scaler itself refuses."""
        return replace(self, features=(self.features - scaler.mean_) / scaler.scale_)


def retrain(
    features: Mapping[str, NDArray[np.float32]],
    parts: Mapping[str, Split],
    source: str,
    n_balanced: int,
    classes: Sequence[str],
    seed: int,
    report: Report,
) -> Fitted:
    """`weight` (C, F) and `bias` (C,) on the features as they are, and the chosen `inverse_strength`.

    features, parts: of the splits `train` and `val`; source: the one that trains the layer. The scaler is
    that of the authors' code: fitted to the training split, whatever the source, but while a strength is
    chosen on halves of `val` to the balanced subset of the first half. Reports the worst group's accuracy of
    every strength. DataError if the source lacks a class.
    """
    absent = [name for label, name in enumerate(classes) if label not in parts[source].labels]
    if absent:
        raise DataError(f"no usable image of {absent[0]!r} in the split {source!r} to train a last layer on")
    splits = {
        name: Images(features[name].astype(np.float64), part.labels, part.groups)
        for name, part in parts.items()
    }
    scaler = StandardScaler().fit(splits["train"].features)
    stream = rng(seed, "last layer strength")
    if source == "val":
        first, tuning = halves(splits["val"], rng(seed, "last layer halves"))
        fitting = balanced(first, stream)
        of_tuning = StandardScaler().fit(fitting.features)
    else:
        fitting, tuning, of_tuning = balanced(splits["train"], stream), splits["val"], scaler
    inverse_strength = _tuned(
        fitting.scaled(of_tuning), tuning.scaled(of_tuning), len(classes), _state(stream), report
    )
    training, layers = splits[source].scaled(scaler), []
    for i in range(n_balanced):
        stream = rng(seed, "last layer", i)
        subset = balanced(training, stream)
        layers.append(_layer(subset, inverse_strength, len(classes), _state(stream)))
    weight, bias = (np.mean(values, axis=0) for values in zip(*layers, strict=True))
    weight, bias = unscaled(weight, bias, scaler)
    tensors = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return Fitted(tensors, {"inverse_strength": inverse_strength})


def halves(images: Images, stream: np.random.Generator) -> tuple[Images, Images]:
    """Two halves of every group, drawn at random; the odd image is in the first."""
    first = np.zeros(len(images.labels), dtype=bool)
    for group in np.unique(images.groups):
        members = np.flatnonzero(images.groups == group)
        first[stream.permutation(members)[: -(-len(members) // 2)]] = True
    return images.rows(np.flatnonzero(first)), images.rows(np.flatnonzero(~first))


def _tuned(fitting: Images, tuning: Images, n_classes: int, state: int, report: Report) -> float:
    """The inverse strength whose layer has the best worst group on `tuning`: the weakest penalty of the best,
    and the weakest of all where there is nothing to tune on."""
    worst = []
    for step, inverse_strength in enumerate(INVERSE_STRENGTHS):
        weight, bias = _layer(fitting, inverse_strength, n_classes, state)
        predictions = (tuning.features @ weight.T + bias).argmax(axis=1)
        worst.append(worst_group_accuracy(predictions, tuning.labels, tuning.groups))
        report(step, inverse_strength=inverse_strength, tuning_worst_group_accuracy=worst[-1])
    return INVERSE_STRENGTHS[int(np.argmax(worst))]


def balanced(images: Images, stream: np.random.Generator) -> Images:
    """As many images of every group as the smallest has, drawn without replacement."""
    size = np.unique(images.groups, return_counts=True)[1].min()
    drawn = [
        stream.choice(np.flatnonzero(images.groups == group), size, replace=False)
        for group in np.unique(images.groups)
    ]
    return images.rows(np.concatenate(drawn))


def of_two_classes(weight: Floats, bias: Floats) -> Layer:
    """The layer (2, F), (2,) the difference of whose logits is one regression's, (1, F), (1,)."""
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2


def unscaled(weight: Floats, bias: Floats, scaler: StandardScaler) -> Layer:
    """The layer that says of features as they are what this one says of them standardised."""
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_


def _state(stream: np.random.Generator) -> int:
    """What liblinear's own draws start from."""
    return int(stream.integers(2**31))


def _layer(part: Images, inverse_strength: float, n_classes: int, state: int) -> Layer:
    """Logistic regression with an L1 penalty. Two classes: one regression; more: one against the rest for
    each class."""
    one_each = [
        _binary(part.features, part.labels == label, inverse_strength, state)
        for label in ((1,) if n_classes == 2 else range(n_classes))
    ]
    weight, bias = (np.array(values) for values in zip(*one_each, strict=True))
    return of_two_classes(weight, bias) if n_classes == 2 else (weight, bias)


def _binary(features: Floats, positive: NDArray[np.bool_], inverse_strength: float, state: int) -> Layer:
    model = LogisticRegression(
        C=inverse_strength, l1_ratio=1, solver="liblinear", max_iter=PASSES, random_state=state
    ).fit(features, positive)
    return model.coef_[0], model.intercept_[0]
