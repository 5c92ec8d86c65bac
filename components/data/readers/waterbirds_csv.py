"""The layout of the Waterbirds release: one `metadata.csv` and image files beside it."""

from pathlib import Path

import pandas as pd

from components.data.card import Card
from components.data.images import SPLITS, DataError, ImageIndex, inside

METADATA = "metadata.csv"
COLUMNS = ("img_id", "img_filename", "y", "split", "place")


class WaterbirdsCsv:
    """img_id, img_filename, y, split (0 train, 1 val, 2 test), place; group = y x places + place."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing, out of range or outside the root."""
        table = self._table(root)
        self._check(table, root, card)
        labels, places = table["y"].to_numpy("int64"), table["place"].to_numpy("int64")
        return ImageIndex(
            root=root,
            image_ids=table["img_id"].to_numpy("int64"),
            paths=table["img_filename"].to_numpy(object),
            labels=labels,
            groups=labels * len(card.places) + places,
            splits=table["split"].map(dict(enumerate(SPLITS))).to_numpy(object),
            classes=card.classes,
            group_names=tuple(f"{y} on {place}" for y in card.classes for place in card.places),
            masks=card.masks,
            part_masks=card.part_masks,
        )

    def _table(self, root: Path) -> pd.DataFrame:
        path = root / METADATA
        if not path.is_file():
            raise DataError(f"no {METADATA} in {root}")
        table = pd.read_csv(path, dtype={"img_filename": str})
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise DataError(f"{path} has no column {', '.join(missing)}")
        return table.sort_values("img_id", ignore_index=True)

    def _check(self, table: pd.DataFrame, root: Path, card: Card) -> None:
        if not pd.api.types.is_integer_dtype(table["img_id"]):
            raise DataError(f"{root / METADATA}: img_id must be whole numbers")
        if table["img_id"].duplicated().any():
            raise DataError(f"{root / METADATA} has an img_id twice")
        if table["img_filename"].isna().any():
            raise DataError(f"{root / METADATA}: img_filename is empty in a row")
        limits = {"y": len(card.classes), "place": len(card.places), "split": len(SPLITS)}
        for column, limit in limits.items():
            if not table[column].isin(range(limit)).all():
                raise DataError(f"{root / METADATA}: {column} must be 0..{limit - 1}")
        for name in table["img_filename"]:
            inside(root, name)
