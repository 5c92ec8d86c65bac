"""The CUB_200_2011 release: tables of text beside `images/` and `segmentations/`."""

from pathlib import Path

import numpy as np
import pandas as pd

from components.data.card import Card
from components.data.images import DataError, ImageIndex, inside
from components.data.tables import read_table, whole_numbers
from components.data.validation_split import with_validation_split

TABLES = {  # a line of each: an id, a space, the value
    "images.txt": "path",
    "image_class_labels.txt": "class_id",
    "train_test_split.txt": "is_training",
}
CLASSES = "classes.txt"


class Cub:
    """The official split, its training images without a fixed tenth, which validates; groups are classes."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing, out of range or outside the root."""
        table = self._table(root)
        self._check(table, root, card)
        labels = table["class_id"].to_numpy("int64") - 1
        official = np.where(table["is_training"] == 1, "train", "test").astype(object)
        return ImageIndex(
            root=root,
            image_ids=table.index.to_numpy("int64"),
            paths=("images/" + table["path"]).to_numpy(object),
            labels=labels,
            groups=labels.copy(),
            splits=with_validation_split(official),
            classes=card.classes,
            group_names=card.classes,
            masks=card.masks,
            part_masks=card.part_masks,
            mask_values=card.mask_values,
        )

    def _table(self, root: Path) -> pd.DataFrame:
        columns = [_column(root / name, value) for name, value in TABLES.items()]
        table = pd.concat(columns, axis=1).sort_index()
        if table.isna().any(axis=None):
            raise DataError(f"{root}: image {table.index[table.isna().any(axis=1)][0]} is not in every table")
        return table

    def _check(self, table: pd.DataFrame, root: Path, card: Card) -> None:
        told = tuple(_column(root / CLASSES, "folder")["folder"])
        if told != (card.folders or card.classes):
            raise DataError(f"{root / CLASSES} has other classes than the card of {card.name}")
        limits = {"class_id": range(1, len(card.classes) + 1), "is_training": range(2)}
        for column, allowed in limits.items():
            if not pd.to_numeric(table[column], errors="coerce").isin(allowed).all():
                raise DataError(f"{root}: {column} must be {allowed.start}..{allowed.stop - 1}")
        for path in table["path"]:
            inside(root, f"images/{path}")


def _column(path: Path, name: str) -> pd.DataFrame:
    """The values of a table by id."""
    table = read_table(path, ("id", name), sep=" ", names=["id", name], header=None)
    whole_numbers(path, table["id"], "id")
    if table["id"].duplicated().any():
        raise DataError(f"{path}: ids must be whole numbers, each once")
    return table.set_index("id")
