"""A tiny ImageNet and tiny sets to test its classifiers on, in the folders and with the tables of the releases."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.card import Card
from components.data.readers.imagenet_shifts import FOLDERS, MAPPINGS, SI_SCORE_LABELS

CLASSES = ("tench", "bench", "tandem", "mountain bike", "vase", "barber chair", "folding chair")
TITLES = (
    "tench, Tinca tinca",
    "park bench, bench",
    "bicycle-built-for-two, tandem bicycle, tandem",
    "mountain bike, all-terrain bike, off-roader",
    "vase",
    "barber chair",
    "folding chair",
)  # the first lemma of two is not the card's name
WNIDS = tuple(f"n{label:08d}" for label in range(len(CLASSES)))
CARD = Card(
    name="shifts",
    title="",
    source="",
    licence="",
    layout="imagenet_shifts",
    image_size=16,
    classes=CLASSES,
    folders=WNIDS,
    test_folder="val",
    sets=tuple(FOLDERS),
)
IN_SETS = {
    "imagenet_v2": {str(label): label for label in range(len(CLASSES))},
    "imagenet_a": {WNIDS[label]: label for label in (0, 4)},
    "imagenet_r": {WNIDS[label]: label for label in (1, 2, 4)},
    "imagenet_sketch": {wnid: label for label, wnid in enumerate(WNIDS)},
    "objectnet": {"bike": 3, "chair": 5, "vase_folder": 4},
    "si_score_location": {"flower pot": 4},
    "si_score_rotation": {"flower pot": 4, "bench": 1},
    "si_score_size": {"flower pot": 4},
}  # of each set the label of each folder
ALSO = {3: {2}, 5: {6}}  # of ObjectNet's labels: what is right beside them
LINES = (3, 0, 6, 1, 5, 2, 4)  # of each class, where its title stands


def draw_shifts(root: Path, per_class: int = 2, side: int = 16) -> Path:
    """`per_class` images of each class of each set, 10 of each for training; brightness tells the class."""
    for split, count in (("train", 10), ("val", per_class)):
        for label, wnid in enumerate(WNIDS):
            _draw(root / split / wnid, label, count, side)
    for name, folders in IN_SETS.items():
        for folder, label in folders.items():
            _draw(root / FOLDERS[name] / folder, label, per_class, side)
    _draw(root / FOLDERS["objectnet"] / "tongs", 0, per_class, side)  # which ImageNet does not have
    (root / "imagenet-a" / "README.txt").write_text("about\n")
    _draw_masks(root, side)
    _write_tables(root)
    return root


def _draw(folder: Path, label: int, count: int, side: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        image = np.full((side, side, 3), 20 + 30 * label, np.uint8)
        image[number % side] = 0
        Image.fromarray(image).save(folder / f"{number}.png")


def _draw_masks(root: Path, side: int) -> None:
    """Six images that are wider than high; `mask_of` has their masks."""
    images = root / FOLDERS["imagenet_segmentation"]
    images.mkdir(parents=True)
    stream = np.random.default_rng(0)
    masks = root / "imagenet_segmentation" / "masks"
    masks.mkdir()
    for number in range(6):
        image = stream.integers(0, 256, (side, 2 * side, 3), np.uint8)
        Image.fromarray(image).save(images / f"{number}.png")
        Image.fromarray(mask_of(number, side)).save(masks / f"{number}.png")


def mask_of(number: int, side: int) -> NDArray[np.uint8]:
    """The object in the image of this number."""
    mask = np.zeros((side, 2 * side), np.uint8)
    mask[: 2 + number, :side] = 1
    return mask


def _write_tables(root: Path) -> None:
    tables = {
        "folder_to_objectnet_label": {
            "bike": "Bicycle",
            "chair": "Chair",
            "vase_folder": "Vase",
            "tongs": "Tongs",
        },
        "objectnet_to_imagenet_1k": {
            "Bicycle": f"{TITLES[3]}; {TITLES[2]}",
            "Chair": "barber chair; folding chair",
            "Vase": "vase",
        },
        "pytorch_to_imagenet_2012_id": {str(label): line for label, line in enumerate(LINES)},
    }
    folder = root / MAPPINGS
    folder.mkdir()
    for name, content in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    lines = [TITLES[LINES.index(line)] for line in range(len(LINES))]
    (folder / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    (root / SI_SCORE_LABELS).write_text(
        '"""Labels."""\n\nlabel_str_to_imagenet_classes = {\n    \'flower pot\': 4,\n    "bench": 1,\n}\n'
    )
