"""What holds of every reader, whatever files there are. A new layout adds a function that draws it."""

import shutil

import numpy as np
import pandas as pd
import pytest

from components.data.card import load_card
from components.data.images import SPLITS, DataError, decode
from components.data.readers.cifar10_c import CORRUPTIONS, LABELS, RELEASE
from grid.names import component_class, names
from tests import shifted_world
from tests.world import draw_waterbirds

READERS = "components.data.readers"
CARD = load_card("toybirds")
SPAWRIOUS = load_card("spawrious_o2o_hard")
SHIFTS = shifted_world.CARD.model_copy(update={"sets": shifted_world.CARD.sets[:-1]})  # without masks
CARDS = {"spawrious": SPAWRIOUS, "imagenet_shifts": SHIFTS}


def draw_folders(root):
    source = draw_waterbirds(root / "source", side=16)
    for split in ("train", "val", "test"):
        for label, name in enumerate(CARD.classes):
            shutil.copytree(source / str(label), root / "data" / split / name)
    return root / "data"


def draw_images(root):
    shutil.copytree(draw_waterbirds(root / "source", side=16) / "0", root / "data" / "images" / "0")
    return root / "data"


def draw_labelled(root):
    source = draw_waterbirds(root / "source", side=16)
    paths = sorted(path.relative_to(source).as_posix() for path in source.glob("[01]/*.png"))
    table = pd.DataFrame({"file": paths, "class_index": [path[0] for path in paths]})
    table.to_csv(source / "labels.csv", index=False)
    return source


def draw_cub(root):
    source = draw_waterbirds(root / "source", per_group=20, side=16)
    table = pd.read_csv(source / "metadata.csv")
    table["is_training"] = (table["split"] == 0).astype(int)
    table["class_id"] = table["y"] + 1
    (source / "images").mkdir()
    for label in ("0", "1"):
        (source / label).rename(source / "images" / label)
    tables = {"images": "img_filename", "image_class_labels": "class_id", "train_test_split": "is_training"}
    for name, column in tables.items():
        table[["img_id", column]].to_csv(source / f"{name}.txt", sep=" ", header=False, index=False)
    (source / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(CARD.classes, 1)))
    return source


def draw_corrupted(root):
    source = draw_waterbirds(root, side=16)
    table = pd.read_csv(source / "metadata.csv")
    table["corruption"] = np.where(table["split"] == 2, "fog", None)
    table["severity"] = np.where(table["split"] == 2, 3, np.nan)
    table.to_csv(source / "metadata.csv", index=False)
    return source


def draw_cifar(root):
    source = draw_folders(root)
    (source / RELEASE).mkdir()
    np.save(source / RELEASE / LABELS, np.arange(20) % 4 // 2)
    for number, name in enumerate(CORRUPTIONS):
        images = np.random.default_rng(number).integers(0, 256, (20, 16, 16, 3), np.uint8)
        np.save(source / RELEASE / f"{name}.npy", images)
    return source


def draw_spawrious(root):
    image = next(draw_waterbirds(root / "source", side=16).glob("0/*.png"))
    for folder in "01":
        for place in SPAWRIOUS.places:
            for breed in SPAWRIOUS.classes:
                target = root / "data" / folder / place / breed
                target.mkdir(parents=True)
                shutil.copy(image, target / f"{place}_{breed}_{folder}.png")
    return root / "data"


LAYOUTS = {
    "corrupted_csv": draw_corrupted,
    "cifar10_c": draw_cifar,
    "spawrious": draw_spawrious,
    "imagenet_shifts": shifted_world.draw_shifts,
    "waterbirds_csv": lambda root: draw_waterbirds(root, side=16),
    "image_folder": draw_folders,
    "unlabelled_images": draw_images,
    "labels_csv": draw_labelled,
    "cub": draw_cub,
}


@pytest.fixture(scope="module", params=names(READERS))
def read(request, tmp_path_factory):
    """A function that reads a fresh data set in the layout of one reader."""
    root = LAYOUTS[request.param](tmp_path_factory.mktemp(request.param))
    card = CARDS.get(request.param, CARD)
    return lambda: component_class(READERS, request.param)().read(root, card)


def test_rows_are_sorted_by_unique_ids(read):
    index = read()
    assert index.image_ids.dtype == index.labels.dtype == index.groups.dtype == np.int64
    assert (np.diff(index.image_ids) > 0).all()
    assert {len(getattr(index, name)) for name in ("paths", "labels", "groups", "splits")} == {len(index)}


def test_labels_groups_and_splits_have_names(read):
    index = read()
    assert index.classes in (CARD.classes, SPAWRIOUS.classes, SHIFTS.classes)
    assert set(index.labels) <= set(range(len(index.classes)))
    assert set(index.groups) <= set(range(len(index.group_names)))
    assert set(index.splits) in ({"test"}, set(SPLITS))
    assert all(type(path) is str for path in index.paths)


def test_a_group_of_training_lies_in_one_class(read):
    index = read()
    index = index.rows(index.splits != "test")  # where images are corrupted, a group in test is a kind of it
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
