"""The index of a data set that is tested on several sets, all in one space of classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.images import ImageIndex
from components.identity import rng

MASKED = "masked"  # split of images that are there for their masks alone: no accuracy counts them
MASKS = "masks/{stem}.png"  # beside the folder that the images lie in
NO_LABEL = -1  # of these images


@dataclass(frozen=True)
class ShiftedIndex(ImageIndex):
    """In the split test, the groups are sets. Images of the split MASKED have masks and no label.

    set_classes: by group, the classes that occur in the set as it was released, whatever rows are left here;
    also: by group and label, the classes that are right beside the label.
    """

    set_classes: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    also: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def right(self, group: int, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which classes are right, of images of one set with these labels (n,): (n, C)."""
        right = np.arange(len(self.classes)) == labels[:, None]
        for row, label in enumerate(labels):
            right[row, list(self.also.get((group, int(label)), ()))] = True
        return right

    def masked(self) -> ImageIndex:
        """The images with masks, as a test split of their own."""
        rows = self.rows(self.splits == MASKED)
        return replace(rows, splits=np.full(len(rows), "test", dtype=object))

    def limited(self, images_per_split: int) -> ImageIndex:
        """As of every index; MASKED is a split of its own."""
        members = np.flatnonzero(self.splits == MASKED)
        order = rng(0, "images_per_split", MASKED).random(len(members)).argsort()
        ids = super().limited(images_per_split).image_ids
        kept = np.union1d(ids, self.image_ids[members[order[:images_per_split]]])
        return self.rows(np.isin(self.image_ids, kept))

    def beside(self, pattern: str | None, row: int) -> Path | None:
        """Masks of images of their folder, in the folder beside it; others have none."""
        path = Path(self.paths[row])
        if pattern is None or self.labels[row] != NO_LABEL:
            return None
        return self.root / path.parents[1] / pattern.format(stem=path.stem)
