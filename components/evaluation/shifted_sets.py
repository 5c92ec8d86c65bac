"""The accuracies on each of the sets that a data set is tested on.

The protocols are those of docs/methods/guided_fine_tuning.md, "Shifted sets".

n images, C classes, P = 2 protocols: among all classes, and among those that occur in the image's set.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.data.shifted_index import ShiftedIndex
from components.method import LAST, Metric
from components.metrics.label_space import hits, top_classes

TOP = 5
PROTOCOLS = ("", "_occurring")  # what is put to the metrics' names
IMAGES_AT_ONCE = 4096

Rankings = NDArray[np.int64]  # (n, P, TOP): the best classes, NO_CLASS where there are no more


def rank(data: Data, ids: Ids, logits: NDArray[np.float32]) -> Rankings:
    """The best classes of these images by logits (n, C); the second protocol is the first where the image is
    in no set."""
    index, every = data.index, np.arange(logits.shape[1])
    first = top_classes(logits, TOP, every)
    rankings = np.stack([first, first], axis=1)
    if isinstance(index, ShiftedIndex):
        rows = data.rows(ids)
        for group, classes in index.set_classes.items():
            members = (index.splits[rows] == "test") & (index.groups[rows] == group)
            rankings[members, 1] = top_classes(logits[members], TOP, classes)
    return rankings


def ranked(data: Data, ids: Ids, logits: Callable[[Ids], NDArray[np.float32]]) -> Rankings:
    """`rank`, a block of images after the other: of 1,000 classes the logits of all do not fit in memory."""
    parts = [rank(data, ids[rows], logits(ids[rows])) for rows in blocks(len(ids), IMAGES_AT_ONCE)]
    return np.concatenate([np.zeros((0, len(PROTOCOLS), TOP), np.int64), *parts])


def set_metrics(data: Data, split: str, rankings: Rankings, selection: str = LAST) -> list[Metric]:
    """Of each set in the split: `set_accuracy` and `set_top5_accuracy`, among all classes, and `…_occurring`,
    among those that occur in the set. Any class that is right for an image counts; `group_accuracy` is that
    of the first alone, as in CFT's code. Images that failed are wrong. Top 5 only of more than 5 classes.

    rankings: of the usable images of the split. No metric where the data set has no sets.
    """
    index = data.index
    if not isinstance(index, ShiftedIndex) or split != "test":
        return []
    part, usable = data.split(split), data.usable_split(split)
    metrics = []
    for group in np.unique(part.groups):
        members, total = usable.groups == group, int((part.groups == group).sum())
        counts = _hits(index, int(group), usable.labels[members], rankings[members])
        name = index.group_names[group]
        metrics += [Metric(metric, n / total, split, name, selection) for metric, n in counts.items()]
    return metrics


def _hits(index: ShiftedIndex, group: int, labels: Ids, rankings: Rankings) -> dict[str, int]:
    """How many images of a set are right, by the metric's name."""
    n_classes = (len(index.classes), len(index.set_classes[group]))
    counts = {}
    for place, (suffix, among) in enumerate(zip(PROTOCOLS, n_classes, strict=True)):
        for name, k in (("set_accuracy", 1), (f"set_top{TOP}_accuracy", TOP)):
            if k == 1 or k < among:
                counts[name + suffix] = sum(
                    int(hits(rankings[rows, place, :k], index.right(group, labels[rows])).sum())
                    for rows in blocks(len(labels), IMAGES_AT_ONCE)
                )
    return counts
