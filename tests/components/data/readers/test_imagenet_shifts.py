"""Sets in the layouts of their releases, read with ImageNet's labels."""

import json
import shutil

import numpy as np
import pytest

from components.data.card import load_card
from components.data.images import DataError
from components.data.readers.image_folder import ImageFolder
from components.data.readers.imagenet_shifts import FOLDERS, MAPPINGS, SI_SCORE_LABELS, ImagenetShifts
from components.data.shifted_index import MASKED, NO_LABEL
from tests.shifted_world import ALSO, CARD, CLASSES, IN_SETS, draw_shifts


@pytest.fixture
def root(tmp_path):
    return draw_shifts(tmp_path / "data")


def of_set(index, name):
    return index.rows(index.groups == index.group_names.index(name))


def test_every_image_of_a_set_has_the_label_of_its_folder(root):
    index = ImagenetShifts().read(root, CARD)
    for name, folders in IN_SETS.items():
        part = of_set(index, name)
        assert set(part.splits) == {"test"}
        assert len(part) == 2 * len(folders)
        for path, label in zip(part.paths, part.labels, strict=True):
            assert path.startswith(f"{FOLDERS[name]}/")
            assert folders[path.split("/")[-2]] == label


def test_imagenet_itself_is_read_as_image_folders_are(root):
    index, alone = ImagenetShifts().read(root, CARD), ImageFolder().read(root, CARD)
    first = index.rows(np.arange(len(alone)))
    for name in ("image_ids", "paths", "labels", "splits"):
        np.testing.assert_array_equal(getattr(first, name), getattr(alone, name))
    tested = of_set(index, "imagenet")
    assert list(tested.paths) == list(alone.paths[alone.splits == "test"])
    others = first.rows(first.splits != "test")
    np.testing.assert_array_equal(others.groups, others.labels)


def test_an_object_of_several_classes_has_them_all_and_the_first_as_label(root):
    index = ImagenetShifts().read(root, CARD)
    group = index.group_names.index("objectnet")
    part = of_set(index, "objectnet")
    assert not any("tongs" in path for path in part.paths)
    for label, right in zip(part.labels, index.right(group, part.labels), strict=True):
        assert set(np.flatnonzero(right)) == {label} | ALSO.get(label, set())
    assert index.set_classes[group].tolist() == [2, 3, 4, 5, 6]
    labels = np.array([3, 5])
    np.testing.assert_array_equal(  # in the other sets, the label alone
        index.right(index.group_names.index("imagenet_v2"), labels), np.eye(len(CLASSES), dtype=bool)[labels]
    )


def test_the_classes_of_a_set_are_those_of_the_release_also_in_a_sample_of_it(root):
    index = ImagenetShifts().read(root, CARD)
    few = index.limited(10)
    assert len(of_set(few, "imagenet_r")) == 1
    for read in (index, few):
        for name, folders in IN_SETS.items():
            if name != "objectnet":
                group = read.group_names.index(name)
                assert read.set_classes[group].tolist() == sorted(folders.values())


def test_images_for_their_masks_alone_are_in_no_split_and_alone_have_masks(root):
    index = ImagenetShifts().read(root, CARD)
    is_masked = index.splits == MASKED
    assert (index.labels == NO_LABEL).tolist() == is_masked.tolist()
    found = [index.beside(index.masks, row) for row in range(len(index))]
    assert [path is not None for path in found] == is_masked.tolist()
    assert all(path.is_file() for path in found if path)
    masked = index.masked()
    assert set(masked.splits) == {"test"}
    names = [masked.beside(masked.masks, row).name for row in range(len(masked))]
    assert names == [path.split("/")[-1] for path in masked.paths]
    assert len(masked) == 6
    assert [len(index.limited(count).masked()) for count in (2, 4, 1000)] == [2, 4, 6]


def test_sets_that_are_not_there_are_named_and_what_the_card_does_not_name_is_not_read(root):
    for name in ("imagenet_a", "si_score_size"):
        shutil.rmtree(root / FOLDERS[name])
    with pytest.raises(
        DataError, match=r"imagenet_a \(imagenet-a\), si_score_size \(si-score/area\)"
    ) as error:
        ImagenetShifts().read(root, CARD)
    assert "\n" not in str(error.value)
    left = tuple(name for name in CARD.sets if name not in {"imagenet_a", "si_score_size"})
    index = ImagenetShifts().read(root, CARD.model_copy(update={"sets": left}))
    assert index.group_names == (*CLASSES, "imagenet", *(n for n in left if n != "imagenet_segmentation"))
    alone = ImagenetShifts().read(root, CARD.model_copy(update={"sets": ()}))
    assert (set(alone.splits), alone.masks) == ({"train", "val", "test"}, None)
    with pytest.raises(DataError, match="no set is called 'imagenet_c'"):
        ImagenetShifts().read(root, CARD.model_copy(update={"sets": ("imagenet_c",)}))


@pytest.mark.parametrize(
    "name", ["imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "si_score_rotation"]
)
def test_a_folder_that_is_no_class_is_refused(root, name):
    (root / FOLDERS[name] / "n99999999").mkdir()
    with pytest.raises(DataError, match="n99999999 is no class"):
        ImagenetShifts().read(root, CARD)


def test_a_class_without_an_image_is_refused(root):
    for path in (root / "imagenet-r" / CARD.folders[2]).iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"no image in .*{CARD.folders[2]}"):
        ImagenetShifts().read(root, CARD)


def test_links_that_lead_out_of_the_folder_are_refused(root):
    outside = root.parent / "outside.png"
    shutil.copy(next((root / "sketch").rglob("*.png")), outside)
    (root / "sketch" / CARD.folders[0] / "link.png").symlink_to(outside)
    with pytest.raises(DataError, match="outside"):
        ImagenetShifts().read(root, CARD)


def test_tables_that_are_shifted_by_a_line_are_refused(root):
    path = root / MAPPINGS / "pytorch_to_imagenet_2012_id.json"
    lines = json.loads(path.read_text())
    path.write_text(json.dumps({label: (line + 1) % len(lines) for label, line in lines.items()}))
    with pytest.raises(DataError, match="have other names on the card"):
        ImagenetShifts().read(root, CARD)


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        (f"{MAPPINGS}/objectnet_to_imagenet_1k.json", '{"Bicycle": "unicycle"}', "do not fit each other"),
        (f"{MAPPINGS}/objectnet_to_imagenet_1k.json", "[]", "is no table"),
        (f"{MAPPINGS}/folder_to_objectnet_label.json", "{", "is no JSON"),
        (f"{MAPPINGS}/pytorch_to_imagenet_2012_id.json", '{"0": 70}', "do not fit each other"),
        (SI_SCORE_LABELS, "import os\nlabels = os.listdir()\n", "no table of labels"),
        (SI_SCORE_LABELS, "labels = {'bench': 1, 'flower pot': 1000}\n", "'flower pot' is not in 0..6"),
    ],
)
def test_a_broken_table_is_named_and_never_run(root, path, content, said):
    (root / path).write_text(content)
    with pytest.raises(DataError, match=said):
        ImagenetShifts().read(root, CARD)
    (root / path).unlink()
    with pytest.raises(DataError, match="no file"):
        ImagenetShifts().read(root, CARD)


def test_the_card_that_ships_names_every_set():
    card = load_card("imagenet_shifts")
    assert card.sets == tuple(FOLDERS)
    assert (len(card.classes), card.folders) == (1000, load_card("imagenet").folders)
