from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from components.data.card import Card
from components.data.images import DataError
from components.data.readers.image_folder import ImageFolder

CARD = Card(
    name="folders", title="", source="", licence="", layout="image_folder", image_size=8, classes=("b", "a")
)


def write(root, split, name, count):
    for number in range(count):
        path = root / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, "train", name, 30)
        write(tmp_path, "test", name, 4)
    (tmp_path / "train" / "a" / "notes.txt").write_text("not an image")
    return tmp_path


def test_labels_follow_the_card_and_not_the_alphabet(root):
    index = ImageFolder().read(root, CARD)
    for path, label, group in zip(index.paths, index.labels, index.groups, strict=True):
        assert CARD.classes[label] == path.split("/")[1]
        assert group == label
    assert len(index) == 68


def test_without_a_validation_folder_a_tenth_of_training_is_kept_apart(root):
    index, again = ImageFolder().read(root, CARD), ImageFolder().read(root, CARD)
    val = index.splits == "val"
    assert val.sum() == 6
    assert all(path.startswith("train/") for path in index.paths[val])
    assert (index.splits == "train").sum() == 54
    assert (index.splits[[p.startswith("test/") for p in index.paths]] == "test").all()
    np.testing.assert_array_equal(index.splits, again.splits)


def test_a_validation_folder_is_taken_as_it_is(root):
    write(root, "val", "a", 3)
    index = ImageFolder().read(root, CARD)
    assert sorted(index.paths[index.splits == "val"]) == ["val/a/0.png", "val/a/1.png", "val/a/2.png"]
    assert (index.splits == "train").sum() == 60


def test_releases_that_test_on_their_validation_images_and_name_folders_otherwise(root):
    (root / "test").rename(root / "val")
    card = CARD.model_copy(update={"test_folder": "val", "classes": ("boat", "ant"), "folders": ("b", "a")})
    index = ImageFolder().read(root, card)
    test = index.splits == "test"
    assert {path.split("/")[0] for path in index.paths[test]} == {"val"}
    assert {path.split("/")[0] for path in index.paths[~test]} == {"train"}
    assert (index.splits == "val").sum() == 6
    assert index.group_names == ("boat", "ant")
    assert {
        (path.split("/")[1], int(label)) for path, label in zip(index.paths, index.labels, strict=True)
    } == {
        ("b", 0),
        ("a", 1),
    }
    (root / "val" / "b").rename(root / "val" / "c")
    with pytest.raises(DataError, match="val/b"):
        ImageFolder().read(root, card)


def test_a_class_without_images_and_a_way_out_are_refused(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    Image.new("RGB", (8, 8)).save(outside)
    (root / "train" / "a" / "link.png").symlink_to(outside)
    with pytest.raises(DataError, match="outside"):
        ImageFolder().read(root, CARD)
    (root / "train" / "a" / "link.png").unlink()
    with pytest.raises(DataError, match="train/c"):
        ImageFolder().read(root, CARD.model_copy(update={"classes": ("a", "b", "c")}))


def test_cifar_photographs(test_data):
    root = test_data("cifar10-mini")
    classes = tuple(sorted(path.name for path in (root / "train").iterdir()))
    index = ImageFolder().read(root, CARD.model_copy(update={"classes": classes}))
    counts = {split: int((index.splits == split).sum()) for split in ("train", "val", "test")}
    assert counts == {"train": 2700, "val": 300, "test": 1000}
    assert np.bincount(index.labels[index.splits == "test"]).tolist() == [100] * 10


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, "TIFF" if path.suffix.startswith(".tif") else None)


def test_what_torchvision_reads_in_its_order(root):
    for name in (
        "a/more/x.png",
        "a/more.png",
        "a/x.jpg/inside.png",
        "b/scan.tif",
        "b/scan.TIFF",
        "b/old.ppm",
    ):
        picture(root / "train" / name)
    theirs = datasets.folder.make_dataset(root / "train", extensions=datasets.folder.IMG_EXTENSIONS)
    (root / "train" / "b" / "circle").symlink_to(root / "train" / "b")  # torchvision does not end in it
    index = ImageFolder().read(root, CARD.model_copy(update={"classes": ("a", "b")}))
    ours = [path for path in index.paths if path.startswith("train/")]
    assert ours == [str(Path(path).relative_to(root)) for path, _ in theirs]
    assert len(ours) == 66
    assert "train/a/x.jpg/inside.png" in ours


def test_hidden_and_appledouble_files_are_no_images(root):
    before = ImageFolder().read(root, CARD).paths.tolist()
    for name in ("a/._0.png", "a/.hidden.png", "a/.thumbs/1.png", "a/__MACOSX/a/0.png"):
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07")
    index = ImageFolder().read(root, CARD)
    assert index.paths.tolist() == before
    assert index.left_out == ("files whose suffix is no image's: 1 .txt",)


def test_what_is_left_out_is_said_with_counts(root, tmp_path_factory):
    write(root, "train", "zebra", 5)
    write(root, "validation", "a", 2)
    write(root, "masks", "a", 3)
    picture(root / "train" / "loose.png")
    (root / "empty").mkdir()
    (root / "train" / "a" / "clip.gif").write_bytes(b"GIF")
    (root / "cache").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    card = CARD.model_copy(update={"masks": "masks/{stem}.png"})
    assert ImageFolder().read(root, card).left_out == (
        "validation (2 images), no split of the card, whose folders are train, val, test",
        "train/zebra (5 images), no class of the card",
        "1 images in train itself, in no class's folder",
        "files whose suffix is no image's: 1 .gif, 1 .txt",
    )
