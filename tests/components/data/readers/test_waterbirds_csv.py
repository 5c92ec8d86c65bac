import pandas as pd
import pytest

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from tests.world import draw_waterbirds

CARD = load_card("toybirds")


@pytest.fixture
def root(tmp_path):
    return draw_waterbirds(tmp_path, per_group=2, side=8)


def edit(root, **changes):
    """Sets cells of the second row, and returns the table."""
    table = pd.read_csv(root / "metadata.csv").astype(object)
    for column, value in changes.items():
        table.loc[1, column] = value
    table.to_csv(root / "metadata.csv", index=False)


def test_rows_against_the_table(root):
    index = WaterbirdsCsv().read(root, CARD)
    table = pd.read_csv(root / "metadata.csv").set_index("img_id")
    assert not table.index.is_monotonic_increasing
    assert index.image_ids.tolist() == sorted(table.index)
    for row, image_id in enumerate(index.image_ids):
        told = table.loc[image_id]
        assert index.paths[row] == told["img_filename"]
        assert index.labels[row] == told["y"]
        assert index.groups[row] == 2 * told["y"] + told["place"]
        assert index.splits[row] == ("train", "val", "test")[told["split"]]
    assert index.group_names == tuple(f"{y} on {p}" for y in CARD.classes for p in CARD.places)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y": 2}, "y must be 0..1"),
        ({"y": -1}, "y must be 0..1"),
        ({"y": 0.5}, "y must be 0..1"),
        ({"y": None}, "y must be 0..1"),
        ({"y": "cat"}, "y must be 0..1"),
        ({"place": 2}, "place must be 0..1"),
        ({"split": 3}, "split must be 0..2"),
        ({"img_filename": "../../x.png"}, "outside"),
        ({"img_filename": "/etc/passwd"}, "outside"),
        ({"img_filename": None}, "img_filename is empty"),
        ({"img_id": "x"}, "img_id must be whole"),
        ({"img_id": 1.5}, "img_id must be whole"),
        ({"img_id": None}, "img_id must be whole"),
    ],
)
def test_what_is_wrong_is_named(root, changes, says):
    edit(root, **changes)
    with pytest.raises(DataError, match=says):
        WaterbirdsCsv().read(root, CARD)


def test_a_repeated_id_and_missing_parts(root):
    table = pd.read_csv(root / "metadata.csv")
    table.assign(img_id=7).to_csv(root / "metadata.csv", index=False)
    with pytest.raises(DataError, match="img_id twice"):
        WaterbirdsCsv().read(root, CARD)
    table.drop(columns=["place", "y"]).to_csv(root / "metadata.csv", index=False)
    with pytest.raises(DataError, match="no column y, place"):
        WaterbirdsCsv().read(root, CARD)
    (root / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"no metadata\.csv"):
        WaterbirdsCsv().read(root, CARD)


def test_waterpets_has_the_counts_that_its_maker_states(test_data):
    index = WaterbirdsCsv().read(test_data("waterpets"), load_card("waterpets"))
    counts = {
        split: [int(((index.splits == split) & (index.groups == g)).sum()) for g in range(4)]
        for split in ("train", "val", "test")
    }
    assert counts == {"train": [682, 35, 19, 341], "val": [60, 60, 30, 30], "test": [100, 100, 50, 50]}
    assert all(index.beside(index.masks, row).is_file() for row in range(len(index)))
