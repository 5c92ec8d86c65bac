"""Images without labels, in the folder `images`: for explanations of what a network predicts."""

from pathlib import Path

import numpy as np

from components.card import Card
from components.images import IMAGE_SUFFIXES, DataError, ImageIndex, inside


class UnlabelledImages:
    """All images below `images/`, in the split test and the card's last class; ids in the order of paths."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError if there is no image."""
        found = sorted(p for p in (root / "images").rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise DataError(f"no image in {root / 'images'}")
        labels = np.full(len(found), len(card.classes) - 1, dtype=np.int64)
        return ImageIndex(
            root=root,
            image_ids=np.arange(len(found), dtype=np.int64),
            paths=np.array([inside(root, p.relative_to(root).as_posix()) for p in found], dtype=object),
            labels=labels,
            groups=labels.copy(),
            splits=np.full(len(found), "test", dtype=object),
            classes=card.classes,
            group_names=card.classes,
            masks=card.masks,
            part_masks=card.part_masks,
        )
