import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.cub import Cub

CARD = load_card("cub").model_copy(update={"classes": ("Tern", "Wren"), "folders": ("001.Tern", "002.Wren")})
N = 30


@pytest.fixture
def root(tmp_path):
    """The release of two classes: odd ids are terns, ids up to 20 are for training; no line is in order."""
    ids = [int(i) for i in np.random.default_rng(0).permutation(np.arange(1, N + 1))]
    folder = {i: CARD.folders[(i + 1) % 2] for i in ids}
    lines = {
        "images": [f"{i} {folder[i]}/bird_{i}.jpg" for i in ids],
        "image_class_labels": [f"{i} {1 + (i + 1) % 2}" for i in reversed(ids)],
        "train_test_split": [f"{i} {int(i <= 20)}" for i in sorted(ids)],
        "classes": [f"{k} {name}" for k, name in enumerate(CARD.folders, 1)],
    }
    for name, content in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(content) + "\n")
    return tmp_path


def test_rows_against_the_tables(root):
    index = Cub().read(root, CARD)
    assert index.image_ids.tolist() == list(range(1, N + 1))
    assert index.paths[4] == "images/001.Tern/bird_5.jpg"
    assert index.labels.tolist() == [(i + 1) % 2 for i in range(1, N + 1)]
    assert index.beside(index.masks, 4) == root / "segmentations/001.Tern/bird_5.png"
    assert (index.splits[20:] == "test").all()
    assert sorted(index.splits[:20]) == ["train"] * 18 + ["val"] * 2
    np.testing.assert_array_equal(index.splits, Cub().read(root, CARD).splits)


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("image_class_labels.txt", "5 3", "class_id must be 1..2"),
        ("train_test_split.txt", "5 2", "is_training must be 0..1"),
        ("images.txt", "5 ../../x.jpg", "outside"),
        ("images.txt", "x a.jpg", "whole numbers"),
        ("images.txt", "6 a.jpg", "each once"),
        ("classes.txt", "5 003.Owl", "other classes"),
    ],
)
def test_what_is_wrong_is_named(root, file, line, says):
    lines = (root / file).read_text().splitlines()
    kept = [text for text in lines if text.split()[0] != "5"]
    (root / file).write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(DataError, match=says):
        Cub().read(root, CARD)


def test_an_image_that_is_not_in_every_table_and_a_table_that_is_not_there(root):
    (root / "train_test_split.txt").write_text("1 1\n")
    with pytest.raises(DataError, match="image 2 is not in every table"):
        Cub().read(root, CARD)
    (root / "images.txt").unlink()
    with pytest.raises(DataError, match=r"no images\.txt"):
        Cub().read(root, CARD)


def test_photographs_of_the_first_ten_classes(test_data, tmp_path):
    """Tables as the release writes them, from a sample's own; its photographs stay where they are."""
    import pandas as pd

    source = test_data("cub-mini")
    told = pd.read_csv(source / "labels.csv")
    (tmp_path / "images").mkdir()
    card = load_card("cub")
    for row in told.itertuples():
        to = tmp_path / row.file
        to.parent.mkdir(exist_ok=True)
        Image.open(source / row.file).save(to)
    paths = told["file"].str.removeprefix("images/")
    tables = {"images": paths, "image_class_labels": told["class_id"], "train_test_split": told["is_train"]}
    for name, values in tables.items():
        pairs = zip(told["cub_img_id"], values, strict=True)
        (tmp_path / f"{name}.txt").write_text("".join(f"{i} {value}\n" for i, value in pairs))
    (tmp_path / "classes.txt").write_text("".join(f"{k} {f}\n" for k, f in enumerate(card.folders, 1)))
    index = Cub().read(tmp_path, card)
    by_id = told.set_index("cub_img_id").loc[index.image_ids]
    names = [card.classes[label].replace(" ", "_") for label in index.labels]
    assert names == by_id["class_name"].tolist()
    assert [path.split("/")[1] for path in index.paths] == [card.folders[label] for label in index.labels]
    assert ((index.splits == "test") == (by_id["is_train"] == 0)).all()
    assert all(index.path(row).is_file() for row in range(len(index)))
