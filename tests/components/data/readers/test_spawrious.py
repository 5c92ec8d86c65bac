from collections import Counter

import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers import spawrious
from components.data.readers.spawrious import PLACES, Spawrious

CARD = load_card("spawrious_o2o_hard")
IMAGES = 100  # of a folder of the drawn release; the real one has 3168


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("spawrious224")
    for folder in "01":
        for place in CARD.places:
            for breed in CARD.classes:
                target = root / folder / place / breed
                target.mkdir(parents=True)
                (target / "notes.txt").touch()
                for number in range(IMAGES + 5):
                    (target / f"{place}_{breed}_{number:03}.png").touch()
    Image.new("RGB", (8, 8)).save(root / "0" / "beach" / "corgi" / "beach_corgi_000.png")
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(spawrious, "IMAGES", IMAGES)


def counts(root, name):
    """Images by (training or test, folder, place, breed), as the paths tell."""
    index = Spawrious().read(root, CARD.model_copy(update={"name": name}))
    found = Counter()
    for row, path in enumerate(index.paths):
        folder, place, breed, _ = path.split("/")
        assert CARD.classes[index.labels[row]] == breed
        assert index.group_names[index.groups[row]] == f"{breed} on {place}"
        found["test" if index.splits[row] == "test" else "train", int(folder), place, breed] += 1
    assert (index.splits == "val").sum() == int((index.splits != "test").sum() * 0.1)
    assert len(set(index.paths)) == len(index)
    return found


def test_one_to_one_hard(root):
    """Places as the paper's table and the authors' loader have them."""
    own = {"bulldog": "jungle", "dachshund": "mountain", "labrador": "snow", "corgi": "desert"}
    other = {"bulldog": "mountain", "dachshund": "snow", "labrador": "desert", "corgi": "jungle"}
    expected = {}
    for breed in CARD.classes:
        for folder, share in ((0, 97), (1, 87)):
            expected["train", folder, own[breed], breed] = share
            expected["train", folder, "beach", breed] = 100 - share
            expected["test", folder, other[breed], breed] = 100
    assert counts(root, "spawrious_o2o_hard") == expected


def test_many_to_many_hard(root):
    train = {
        "bulldog": "dirt jungle",
        "dachshund": "dirt jungle",
        "labrador": "snow beach",
        "corgi": "snow beach",
    }
    test = {
        "bulldog": "snow beach",
        "dachshund": "snow beach",
        "labrador": "dirt jungle",
        "corgi": "dirt jungle",
    }
    expected = {("train", 0, place, breed): 100 for breed in CARD.classes for place in train[breed].split()}
    expected |= {("test", 0, place, breed): 100 for breed in CARD.classes for place in test[breed].split()}
    assert counts(root, "spawrious_m2m_hard") == expected


@pytest.mark.parametrize("benchmark", list(PLACES))
def test_no_breed_stands_in_test_where_it_stood_in_training(root, benchmark):
    found = counts(root, f"spawrious_{benchmark}")
    seen = {
        split: {(place, breed) for at, _, place, breed in found if at == split} for split in ("train", "test")
    }
    assert not seen["train"] & seen["test"]
    assert {breed for _, breed in seen["test"]} == set(CARD.classes)


def test_the_shares_of_the_release():
    """3168 images in a folder: 97 % of them are 3072, 87 % are 2756."""
    spawrious.IMAGES = 3168
    limits = {limit for split, *_, limit in spawrious._parts("o2o_hard") if split == "train"}
    assert limits == {3072, 96, 2756, 412}


def test_the_first_images_by_name_are_taken(root):
    index = Spawrious().read(root, CARD)
    taken = sorted(path for path in index.paths if path.startswith("0/jungle/bulldog"))
    assert taken == [f"0/jungle/bulldog/jungle_bulldog_{i:03}.png" for i in range(97)]


def test_an_unknown_benchmark_and_a_missing_folder_are_named(root, tmp_path):
    with pytest.raises(DataError, match="'spawrious'; there is: spawrious_o2o_easy"):
        Spawrious().read(root, CARD.model_copy(update={"name": "spawrious"}))
    with pytest.raises(DataError, match=r"no image in .*/0/jungle/bulldog$"):
        Spawrious().read(tmp_path, CARD)


@pytest.mark.parametrize("name", ["spawrious_o2o_hard", "spawrious_m2m_hard"])
def test_cards_name_all_breeds_and_places(name):
    card = load_card(name)
    assert set(card.classes) == set(spawrious.BREEDS)
    every = {
        place for train, test, shared in PLACES.values() for place in [*train.split(), *test.split(), shared]
    }
    assert set(card.places) == every - {None}
    assert np.isin(card.vocabulary("background"), card.vocabulary()).all()
