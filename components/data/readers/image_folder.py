"""Image folders: `<split>/<class>/<image>`, as torchvision reads them and ImageNet and Places365 come."""

from pathlib import Path

import numpy as np

from components.data.card import Card
from components.data.image_files import Others, folder_names, image_files, loose_images, unread
from components.data.images import SPLITS, DataError, ImageIndex, inside
from components.data.validation_split import with_validation_split


class ImageFolder:
    """Splits and classes are folders, in which images are found as torchvision does, also in folders below;
    the groups are the classes. Classes have the card's `folders`, or their names for folders; the test split
    is in the card's `test_folder`. Without a folder `val` for validation, a fixed tenth of the training
    images is the validation split."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError if a split or a class of the card has no image."""
        if not root.is_dir():
            raise DataError(f"no folder {root}")
        others = Others()
        rows = [
            (path, split, label)
            for split, folder in _split_folders(card).items()
            for label, name in enumerate(card.folders or card.classes)
            for path in image_files(root, inside(root, f"{folder}/{name}"), others)
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
            mask_values=card.mask_values,
            left_out=(*_left_out(root, card, others), *others.told()),
        )

    def _check(self, rows: list[tuple[str, str, int]], root: Path, card: Card) -> None:
        for split in ("train", "test"):
            present = {label for _, name, label in rows if name == split}
            folders = card.folders or card.classes
            absent = [name for label, name in enumerate(folders) if label not in present]
            if absent:
                raise DataError(f"no image in {root}/{_split_folders(card)[split]}/{absent[0]}")


def _left_out(root: Path, card: Card, others: Others) -> list[str]:
    """Images that lie where no split or class of the card is, in words with counts. What lies beside the
    splits is told of the layout image_folder alone: others that begin with it have more folders there."""
    splits = list(_split_folders(card).values())
    known = {*splits, *(pattern.split("/")[0] for pattern in (card.masks, card.part_masks) if pattern)}
    beside = [name for name in folder_names(root, "") if name not in known]
    said = []
    if card.layout == "image_folder":
        said += unread(root, beside, f"no split of the card, whose folders are {', '.join(splits)}")
    for split in splits:
        names = set(card.folders or card.classes)
        strange = [f"{split}/{name}" for name in folder_names(root, split, others) if name not in names]
        said += unread(root, strange, "no class of the card")
        loose = loose_images(root, split)
        said += [f"{loose} images in {split} itself, in no class's folder"] if loose else []
    return said


def _split_folders(card: Card) -> dict[str, str]:
    """The folder of each split; where tests are on `val`, there is none for validation."""
    return {split: split for split in SPLITS if split != card.test_folder} | {"test": card.test_folder}
