"""What holds of every reader, whatever files there are. A new layout adds a function that draws it."""

import shutil

import numpy as np
import pytest

from components.card import load_card
from components.images import SPLITS, DataError, decode
from grid.names import component_class, names
from tests.world import draw_waterbirds

READERS = "components.readers"
CARD = load_card("toybirds")


def draw_folders(root):
    source = draw_waterbirds(root / "source", side=16)
    for split in ("train", "val", "test"):
        for label, name in enumerate(CARD.classes):
            shutil.copytree(source / str(label), root / "data" / split / name)
    return root / "data"


LAYOUTS = {"waterbirds_csv": lambda root: draw_waterbirds(root, side=16), "image_folder": draw_folders}


@pytest.fixture(scope="module", params=names(READERS))
def read(request, tmp_path_factory):
    """A function that reads a fresh data set in the layout of one reader."""
    root = LAYOUTS[request.param](tmp_path_factory.mktemp(request.param))
    return lambda: component_class(READERS, request.param)().read(root, CARD)


def test_rows_are_sorted_by_unique_ids(read):
    index = read()
    assert index.image_ids.dtype == index.labels.dtype == index.groups.dtype == np.int64
    assert (np.diff(index.image_ids) > 0).all()
    assert {len(getattr(index, name)) for name in ("paths", "labels", "groups", "splits")} == {len(index)}


def test_labels_groups_and_splits_have_names(read):
    index = read()
    assert index.classes == CARD.classes
    assert set(index.labels) == set(range(len(CARD.classes)))
    assert set(index.groups) <= set(range(len(index.group_names)))
    assert set(index.splits) == set(SPLITS)
    assert all(type(path) is str for path in index.paths)


def test_a_group_lies_in_one_class(read):
    index = read()
    assert all(len(set(index.labels[index.groups == group])) == 1 for group in set(index.groups))


def test_every_image_can_be_decoded_and_is_in_one_split(read):
    index = read()
    assert len(set(index.paths)) == len(index)
    assert {decode(index.path(row)).shape for row in range(len(index))} == {(16, 16, 3)}


def test_reading_twice_gives_the_same(read):
    first, second = read(), read()
    for name in ("image_ids", "paths", "labels", "groups", "splits"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("name", names(READERS))
def test_an_empty_or_absent_folder_is_refused(name, tmp_path):
    reader = component_class(READERS, name)()
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError):
            reader.read(root, CARD)
