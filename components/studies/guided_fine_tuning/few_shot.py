"""Few images of some classes: what concept-guided fine-tuning trains on, and what it selects weights by."""

from dataclasses import dataclass

import numpy as np

from components.data.columns import Ids
from components.identity import rng


@dataclass(frozen=True)
class FewShot:
    """Ids of images, ascending and disjoint, and the classes that are trained, ascending: int64 (n,) each."""

    trained: Ids
    held_out: Ids
    classes: Ids


def few_shot(
    ids: Ids, labels: Ids, images_per_class: int, class_share: float, held_out_per_class: int, seed: int
) -> FewShot:
    """`images_per_class` images of a share of the classes that occur, at least one, and all of a class with
    fewer; and `held_out_per_class` images of each other class or, where no class is left, of each class.

    Drawn by the seed. What is drawn with fewer images or classes is among what is drawn with more; held-out
    images of a trained class are drawn first, and do not depend on how many are trained.
    """
    occurring = np.unique(labels)
    count = max(1, round(class_share * len(occurring)))
    order = rng(seed, "few-shot classes").permutation(occurring)
    classes, others = np.sort(order[:count]), order[count:]
    rank = rng(seed, "few-shot images").random(len(ids))

    def ranked(label: int) -> Ids:
        members = np.flatnonzero(labels == label)
        return ids[members[np.argsort(rank[members], kind="stable")]]

    spare = held_out_per_class if len(others) == 0 else 0
    trained = [ranked(label)[spare:][:images_per_class] for label in classes]
    held_out = [ranked(label)[:held_out_per_class] for label in (others if len(others) else classes)]
    return FewShot(_sorted(trained), _sorted(held_out), classes)


def _sorted(parts: list[Ids]) -> Ids:
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
