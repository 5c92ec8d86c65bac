"""Image folders: `<split>/<class>/<image>`, as torchvision reads them."""

from pathlib import Path

import numpy as np

from components.card import Card
from components.identity import rng
from components.images import IMAGE_SUFFIXES, SPLITS, DataError, ImageIndex, inside

VALIDATION_SHARE = 0.1  # of the training images, where there is no folder `val`


class ImageFolder:
    """Splits and classes are folders; the groups are the classes. Without `val`, a fixed tenth of
    the training images is the validation split."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError if a split or a class of the card has no image."""
        if not root.is_dir():
            raise DataError(f"no folder {root}")
        rows = [
            (path.relative_to(root).as_posix(), split, label)
            for split in SPLITS
            for label, name in enumerate(card.classes)
            for path in self._images(root / split / name)
        ]
        self._check(rows, root, card)
        labels = np.array([label for _, _, label in rows], dtype=np.int64)
        return ImageIndex(
            root=root,
            image_ids=np.arange(len(rows), dtype=np.int64),
            paths=np.array([inside(root, path) for path, _, _ in rows], dtype=object),
            labels=labels,
            groups=labels.copy(),
            splits=self._splits(np.array([split for _, split, _ in rows], dtype=object)),
            classes=card.classes,
            group_names=card.classes,
            masks=card.masks,
            part_masks=card.part_masks,
        )

    def _images(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)

    def _splits(self, splits: np.ndarray) -> np.ndarray:
        if (splits == "val").any():
            return splits
        train = np.flatnonzero(splits == "train")
        count = max(1, int(len(train) * VALIDATION_SHARE))
        splits[rng(0, "validation split").choice(train, count, replace=False)] = "val"
        return splits

    def _check(self, rows: list[tuple[str, str, int]], root: Path, card: Card) -> None:
        for split in ("train", "test"):
            present = {label for _, name, label in rows if name == split}
            absent = [name for label, name in enumerate(card.classes) if label not in present]
            if absent:
                raise DataError(f"no image in {root}/{split}/{absent[0]}")
