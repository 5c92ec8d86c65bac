"""Accuracy where the network knows more classes than the set it is tested on, and an image may be several.

n images, C classes. Both protocols of the sets made for ImageNet's classifiers
(docs/methods/guided_fine_tuning.md, "Shifted sets"): among all classes, and among those that occur in the
set, as ImageNet-A, -R and ObjectNet are defined.
"""

import numpy as np
from numpy.typing import NDArray

NO_CLASS = -1


def top_classes(logits: NDArray[np.floating], k: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes of the `k` highest logits (n, C) among these, best first: (n, k), NO_CLASS where there are
    fewer. Of equal logits the first class comes first."""
    best = np.full((len(logits), k), NO_CLASS, np.int64)
    found = among[np.argsort(-logits[:, among], axis=1, kind="stable")[:, :k]]
    best[:, : found.shape[1]] = found
    return best


def hits(classes: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether one of an image's classes (n, k) is right for it, by (n, C): bool (n,)."""
    found = np.take_along_axis(right, np.maximum(classes, 0), axis=1) & (classes != NO_CLASS)
    any_right: NDArray[np.bool_] = found.any(axis=1)
    return any_right
