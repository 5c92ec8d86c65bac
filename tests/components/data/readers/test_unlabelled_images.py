import csv

import numpy as np
import pytest
from PIL import Image

from components.data.card import UNLABELLED, load_card
from components.data.images import DataError
from components.data.mask_files import IGNORE, read_mask
from components.data.readers.unlabelled_images import UnlabelledImages

CARD = load_card("seg_mini")


def test_all_images_are_for_testing_and_in_no_class_that_a_network_answers(tmp_path):
    for name in ("b.jpg", "deep/a.png", "notes.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    index = UnlabelledImages().read(tmp_path, CARD)
    assert index.paths.tolist() == ["images/b.jpg", "images/deep/a.png"]
    assert index.beside(index.masks, 1) == tmp_path / "masks/deep/a.png"
    assert [index.classes[label] for label in index.labels] == [UNLABELLED] * 2
    assert index.labels.min() == 1000
    assert index.splits.tolist() == ["test"] * 2
    with pytest.raises(DataError, match="no image"):
        UnlabelledImages().read(tmp_path / "images", CARD)


def test_the_masks_of_seg_mini_cover_what_its_table_says(test_data):
    root = test_data("seg-mini")
    index = UnlabelledImages().read(root, CARD)
    with (root / "labels.csv").open() as file:
        told = {row["image"]: row for row in csv.DictReader(file)}
    assert set(index.paths) == set(told)
    for row, path in enumerate(index.paths):
        mask = read_mask(index.beside(index.masks, row))
        assert mask.shape == Image.open(index.path(row)).size[::-1]
        assert float(np.mean(mask == 1)) == pytest.approx(float(told[path]["object_fraction"]), abs=2e-4)
        assert float(np.mean(mask == IGNORE)) == pytest.approx(float(told[path]["ignore_fraction"]), abs=2e-4)
