import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.images import DataError, decode
from components.data.readers.cifar10_c import CORRUPTIONS, Cifar10C

CARD = load_card("cifar10_c").model_copy(update={"classes": ("cat", "dog", "ship")})
LABELS = np.array([2, 0, 1, 2])  # of the test images; the release repeats them for each severity


@pytest.fixture
def root(tmp_path):
    for name in CARD.classes:
        for number in range(20):
            path = tmp_path / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    release = tmp_path / "CIFAR-10-C"
    release.mkdir()
    np.save(release / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))
    for number, name in enumerate((*CORRUPTIONS, "spatter")):
        images = np.zeros((20, 32, 32, 3), np.uint8)
        images[..., 0], images[..., 1] = number, np.arange(20)[:, None, None]
        np.save(release / f"{name}.npy", images)
    return tmp_path


def test_test_images_are_rows_in_blocks_of_severities(root):
    index = Cifar10C().read(root, CARD)
    test = index.rows(index.splits == "test")
    assert len(test) == 15 * 20
    for row in range(len(test)):
        corruption, severity = test.group_names[test.groups[row]].rsplit(" ", 1)
        image = decode(test.path(row))
        number, position = image[5, 5, :2]
        assert image.shape == (32, 32, 3)
        assert CORRUPTIONS[number] == corruption
        assert position // 4 + 1 == int(severity)
        assert test.labels[row] == LABELS[position % 4]
    assert np.bincount(test.groups).tolist() == [0, 0, 0] + [4] * 75


def test_training_images_are_clean_and_their_groups_the_classes(root):
    index = Cifar10C().read(root, CARD)
    clean = index.rows(index.splits != "test")
    np.testing.assert_array_equal(clean.groups, clean.labels)
    assert [CARD.classes[label] for label in clean.labels] == [path.split("/")[1] for path in clean.paths]
    assert [int((index.splits == split).sum()) for split in ("train", "val")] == [54, 6]


def test_what_is_missing_or_does_not_fit_is_named_in_one_line(root):
    def refusal():
        with pytest.raises(DataError) as caught:
            Cifar10C().read(root, CARD)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    release = root / "CIFAR-10-C"
    np.save(release / "fog.npy", np.zeros((15, 32, 32, 3), np.uint8))
    assert "fog.npy has 15 images, labels.npy 20" in refusal()
    (release / "fog.npy").write_bytes(b"")
    assert "fog.npy is no array" in refusal()
    (release / "fog.npy").unlink()
    assert refusal() == f"no file {release / 'fog.npy'}"
    np.save(release / "labels.npy", np.full(20, 3))
    assert "labels must be 0..2" in refusal()
    np.save(release / "labels.npy", np.zeros(19, int))
    assert "has shape (19,), not 5 times the images" in refusal()
    (release / "labels.npy").unlink()
    assert refusal() == f"no file {release / 'labels.npy'}"
    for path in (root / "train" / "dog").iterdir():
        path.unlink()
    assert refusal() == f"no image in {root / 'train' / 'dog'}"


def test_cifars_cards_agree():
    assert load_card("cifar10").classes == load_card("cifar10_c").classes
    assert len(load_card("cifar100").classes) == 100
