"""The layout of Waterbirds with corrupted test images, as the generator `corrupted` writes it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from components.data.card import Card
from components.data.images import DataError, ImageIndex
from components.data.readers.waterbirds_csv import METADATA, WaterbirdsCsv
from components.data.tables import read_table


class CorruptedCsv:
    """waterbirds_csv with the columns corruption and severity. A clean image's group is its class on its
    place; a corrupted one's is "<corruption> <severity>", of whatever class."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing, out of range or outside the root."""
        index = WaterbirdsCsv().read(root, card)
        table = read_table(root / METADATA, ("corruption", "severity"), dtype={"corruption": str})
        table = table.sort_values("img_id", ignore_index=True)
        is_corrupted = table["corruption"].notna().to_numpy()
        if not table["severity"][is_corrupted].isin(range(1, 6)).all():
            raise DataError(f"{root / METADATA}: severity must be 1..5 where there is a corruption")
        corrupted = table[is_corrupted]
        names = (corrupted["corruption"] + " " + corrupted["severity"].astype(int).astype(str)).to_numpy(
            object
        )
        cells, groups = np.unique(names.astype(str), return_inverse=True)
        all_groups = index.groups.copy()
        all_groups[is_corrupted] = len(index.group_names) + groups
        return replace(index, groups=all_groups, group_names=(*index.group_names, *map(str, cells)))
