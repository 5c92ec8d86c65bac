import csv

import pytest

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.labels_csv import LabelsCsv

CARD = load_card("imagenet_mini")


def write(root, *lines):
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_rows_of_the_table(tmp_path):
    index = LabelsCsv().read(write(tmp_path, "class_index,file", "7,images/b.jpg", "0,images/a.jpg"), CARD)
    assert index.paths.tolist() == ["images/b.jpg", "images/a.jpg"]
    assert index.labels.tolist() == [7, 0]
    assert [CARD.classes[label] for label in index.labels] == ["cock", "tench"]
    assert index.splits.tolist() == ["test", "test"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("file", "a.jpg"), "no column class_index"),
        (("file,class_index", "a.jpg,1000"), r"must be 0\.\.999"),
        (("file,class_index", "a.jpg,"), r"must be 0\.\.999"),
        (("file,class_index", "../a.jpg,1"), "outside"),
        (("file,class_index", ",1"), "file is empty"),
        (("file,class_index",), "no row"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, says):
    with pytest.raises(DataError, match=says):
        LabelsCsv().read(write(tmp_path, *lines), CARD)


def test_photographs_of_imagenet_lie_in_the_class_that_their_names_say(test_data):
    root = test_data("imagenet-mini")
    index = LabelsCsv().read(root, CARD)
    with (root / "labels.csv").open() as file:
        wnids = [row["wnid"] for row in csv.DictReader(file)]
    assert [CARD.folders[label] for label in index.labels] == wnids
    assert len(index) == len(set(index.labels.tolist())) == 100
    assert all(index.path(row).is_file() for row in range(100))
