"""Images with a table `labels.csv`: photographs to test on, none to train on."""

from pathlib import Path

from components.data.card import Card
from components.data.images import DataError, ImageIndex
from components.data.readers.unlabelled_images import all_in_test
from components.data.tables import read_table

TABLE = "labels.csv"
COLUMNS = ("file", "class_index")


class LabelsCsv:
    """Columns: `file`, the path; `class_index`, the class's position on the card. All images are in the split
    test; an image's id is its row; the groups are the classes."""

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing, out of range or outside the root."""
        path = root / TABLE
        table = read_table(path, COLUMNS, dtype={"file": str})
        if len(table) == 0 or table["file"].isna().any():
            raise DataError(f"{path}: file is empty in a row, or there is no row")
        if not table["class_index"].isin(range(len(card.classes))).all():
            raise DataError(f"{path}: class_index must be 0..{len(card.classes) - 1}")
        return all_in_test(root, card, table["file"], table["class_index"].to_numpy("int64"))
