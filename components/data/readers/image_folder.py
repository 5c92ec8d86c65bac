"""Image folders: `<split>/<class>/<image>`, as torchvision reads them and ImageNet and Places365 come."""

import os
from pathlib import Path

import numpy as np

from components.data.card import Card
from components.data.images import IMAGE_SUFFIXES, SPLITS, DataError, ImageIndex, inside
from components.data.validation_split import with_validation_split


class ImageFolder:
    """Splits and classes are folders; the groups are the classes. Classes have the card's `folders`, or their
    names for folders; the test split is in the card's `test_folder`. Without a folder `val` for validation, a
    fixed tenth of the training images is the validation split."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError if a split or a class of the card has no image."""
        if not root.is_dir():
            raise DataError(f"no folder {root}")
        rows = [
            (path, split, label)
            for split, folder in _split_folders(card).items()
            for label, name in enumerate(card.folders or card.classes)
            for path in self._images(root, f"{folder}/{name}")
        ]
        self._check(rows, root, card)
        labels = np.array([label for _, _, label in rows], dtype=np.int64)
        return ImageIndex(
            root=root,
            image_ids=np.arange(len(rows), dtype=np.int64),
            paths=np.array([path for path, _, _ in rows], dtype=object),
            labels=labels,
            groups=labels.copy(),
            splits=with_validation_split(np.array([split for _, split, _ in rows], dtype=object)),
            classes=card.classes,
            group_names=card.classes,
            masks=card.masks,
            part_masks=card.part_masks,
        )

    def _images(self, root: Path, folder: str) -> list[str]:
        """Paths of a folder's images. Only what is a link can lead out of the root: asking that of each of
        ImageNet's files takes minutes."""
        if not (root / folder).is_dir():
            return []
        with os.scandir(root / inside(root, folder)) as entries:
            found = sorted((entry.name, entry.is_symlink()) for entry in entries if _is_image(entry.name))
        paths = [(f"{folder}/{name}", link) for name, link in found]
        return [inside(root, path) if link else path for path, link in paths]

    def _check(self, rows: list[tuple[str, str, int]], root: Path, card: Card) -> None:
        for split in ("train", "test"):
            present = {label for _, name, label in rows if name == split}
            folders = card.folders or card.classes
            absent = [name for label, name in enumerate(folders) if label not in present]
            if absent:
                raise DataError(f"no image in {root}/{_split_folders(card)[split]}/{absent[0]}")


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _split_folders(card: Card) -> dict[str, str]:
    """The folder of each split; where tests are on `val`, there is none for validation."""
    return {split: split for split in SPLITS if split != card.test_folder} | {"test": card.test_folder}
