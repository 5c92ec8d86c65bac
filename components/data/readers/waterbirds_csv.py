"""The layout of the Waterbirds release: one `metadata.csv` and image files beside it."""

from pathlib import Path

import pandas as pd

from components.data.card import Card
from components.data.images import SPLITS, DataError, ImageIndex, inside
from components.data.shown_concepts import shown_concepts
from components.data.tables import read_table, whole_numbers

METADATA = "metadata.csv"
COLUMNS = ("img_id", "img_filename", "y", "split", "place")


class WaterbirdsCsv:
    """img_id, img_filename, y, split (0 train, 1 val, 2 test), place; group = y x places + place."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing, out of range or outside the root."""
        table = self._table(root)
        self._check(table, root, card)
        shows = card.shows
        told = shows is not None and (root / inside(root, shows.table)).is_file()
        labels, places = table["y"].to_numpy("int64"), table["place"].to_numpy("int64")
        index = ImageIndex(
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
            mask_values=card.mask_values,
            # what a generator drew its images show, and these are hashed
            tables=(shows.table,) if shows is not None and told and card.generator is None else (),
            left_out=() if shows is None or told else (f"no {shows.table}: no concept is checked",),
        )
        if shows is not None:
            shown_concepts(shows, index, tuple(shows.concepts), card.parts)  # refuses one that does not fit
        return index

    def _table(self, root: Path) -> pd.DataFrame:
        table = read_table(root / METADATA, COLUMNS, dtype={"img_filename": str})
        whole_numbers(root / METADATA, table["img_id"], "img_id")
        return table.sort_values("img_id", ignore_index=True)

    def _check(self, table: pd.DataFrame, root: Path, card: Card) -> None:
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
