"""Images without labels, in the folder `images`: for explanations of what a network predicts."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card
from components.data.image_files import Others, at_least_one
from components.data.images import ImageIndex, inside


class UnlabelledImages:
    """All images below `images/`, in the split test and the card's last class; ids in the order of paths."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError if there is no image."""
        others = Others()
        found = sorted(at_least_one(root, "images", others), key=lambda path: path.split("/"))
        labels = np.full(len(found), len(card.classes) - 1, dtype=np.int64)
        return replace(all_in_test(root, card, found, labels), left_out=tuple(others.told()))


def all_in_test(root: Path, card: Card, paths: Iterable[str], labels: NDArray[np.int64]) -> ImageIndex:
    """The index of images (n of them, labels (n,)) that are all in the split test; an image's id is its
    position, the groups are the classes. DataError for a path that leads outside of `root`."""
    n = len(labels)
    return ImageIndex(
        root=root,
        image_ids=np.arange(n, dtype=np.int64),
        paths=np.array([inside(root, path) for path in paths], dtype=object),
        labels=labels,
        groups=labels.copy(),
        splits=np.full(n, "test", dtype=object),
        classes=card.classes,
        group_names=card.classes,
        masks=card.masks,
        part_masks=card.part_masks,
        mask_values=card.mask_values,
    )
