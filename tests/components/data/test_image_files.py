"""The other layouts that list folders skip what is hidden, and count what is no image."""

import os

import pytest
from PIL import Image

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.unlabelled_images import UnlabelledImages

CARD = load_card("seg_mini")


def test_unlabelled_images_keep_the_order_of_paths(tmp_path):
    names = ["a/x.png", "a.png", "a/b/y.webp", "b.tif", "c.jpg/z.png"]
    for name in [*names, ".hidden/x.png", "._a.png"]:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "images" / "notes.txt").write_text("")
    index = UnlabelledImages().read(tmp_path, CARD)
    assert index.paths.tolist() == [
        "images/a/b/y.webp", "images/a/x.png", "images/a.png", "images/b.tif", "images/c.jpg/z.png",
    ]  # fmt: skip
    assert index.left_out == ("files whose suffix is no image's: 1 .txt",)


def test_a_folder_that_is_not_there_or_leads_outside(tmp_path, tmp_path_factory):
    with pytest.raises(DataError, match="no image in"):
        UnlabelledImages().read(tmp_path, CARD)
    (tmp_path / "images").symlink_to(tmp_path_factory.mktemp("outside"))
    with pytest.raises(DataError, match="outside"):
        UnlabelledImages().read(tmp_path, CARD)


def test_names_that_are_no_utf8_are_left_out_and_told(tmp_path):
    """A name like this ended `plan` and every stage with a traceback."""
    for name in (b"images/a.png", b"images/\xff.png", b"images/\xe9/b.png", b"images/c.\xff"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")
    index = UnlabelledImages().read(tmp_path, CARD)
    assert index.paths.tolist() == ["images/a.png"]
    (told,) = index.left_out
    assert told == r"3 whose names are no UTF-8, such as b'images/c.\xff': rename them"
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(DataError, match="no image in"):
        UnlabelledImages().read(tmp_path, CARD)


def test_a_suffix_with_a_line_break_is_told_in_one_line(tmp_path):
    for name in ("a.png", "b.x\ny"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name, "PNG")
    (told,) = UnlabelledImages().read(tmp_path, CARD).left_out
    assert told == r"files whose suffix is no image's: 1 '.x\ny'"
