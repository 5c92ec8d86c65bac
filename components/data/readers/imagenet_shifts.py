"""ImageNet, and the sets that its classifiers are tested on elsewhere, each as it was released."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from components.data.card import Card
from components.data.image_files import Others, at_least_one, folder_names
from components.data.images import DataError, inside
from components.data.readers.image_folder import ImageFolder
from components.data.shifted_index import MASKED, MASKS, NO_LABEL, ShiftedIndex

IMAGENET = "imagenet"  # the group of its own validation images
FOLDERS = {
    "imagenet_v2": "imagenetv2-matched-frequency-format-val",
    "imagenet_a": "imagenet-a",
    "imagenet_r": "imagenet-r",
    "imagenet_sketch": "sketch",
    "objectnet": "objectnet-1.0/images",
    "si_score_location": "si-score/location20_area02_min0pc",
    "si_score_rotation": "si-score/rotation",
    "si_score_size": "si-score/area",
    "imagenet_segmentation": "imagenet_segmentation/images",
}
SEGMENTATION = "imagenet_segmentation"
OBJECTNET = "objectnet"
MAPPINGS = "objectnet-1.0/mappings"
SI_SCORE_LABELS = "si-score/label_str_to_imagenet_classes.py"

Classes = Mapping[str, tuple[int, ...]]  # by folder: the class that is the label, then others that are right


class ImagenetShifts:
    """train/ and val/ as `image_folder` reads them, and beside them the folders of the card's `sets`.

    Classes are folders: numbers in ImageNet-V2, WordNet ids (the card's `folders`) in ImageNet-A, -R and
    -Sketch, names in ObjectNet and SI-Score, which tables of these releases translate. Images of ObjectNet
    that show none of ImageNet's classes are left out; where an object is several classes, the first is the
    label. ImageNet-Segmentation has no labels: see `ShiftedIndex`. In test the groups are the sets,
    elsewhere the classes.
    """

    def read(self, root: Path, card: Card) -> ShiftedIndex:
        """The index of `root`; DataError names the sets that are not there, a folder without an image, or one
        that is no class."""
        imagenet = ImageFolder().read(root, card)
        self._check(root, card)
        names = (*card.classes, IMAGENET, *(name for name in card.sets if name != SEGMENTATION))
        group_of = {name: group for group, name in enumerate(names)}
        groups = imagenet.groups.copy()
        groups[imagenet.splits == "test"] = group_of[IMAGENET]
        others = Others()
        rows = [
            (path, classes, group_of[name])
            for name in card.sets
            if name != SEGMENTATION
            for path, classes in self._labelled(root, card, name, others)
        ]
        masked = at_least_one(root, FOLDERS[SEGMENTATION], others) if SEGMENTATION in card.sets else []
        paths = [*imagenet.paths, *(path for path, _, _ in rows), *masked]
        counts = (len(imagenet), len(rows), len(masked))
        return ShiftedIndex(
            root=root,
            image_ids=np.arange(len(paths), dtype=np.int64),
            paths=np.array(paths, dtype=object),
            labels=np.concatenate(
                [imagenet.labels, [classes[0] for _, classes, _ in rows], [NO_LABEL] * len(masked)]
            ).astype(np.int64),
            groups=np.concatenate([groups, [group for _, _, group in rows], [0] * len(masked)]).astype(
                np.int64
            ),
            splits=np.concatenate(
                [imagenet.splits, np.repeat(np.array(["test", MASKED], object), counts[1:])]
            ),
            classes=card.classes,
            group_names=names,
            left_out=(*imagenet.left_out, *others.told()),
            masks=MASKS if masked else None,
            mask_values=card.mask_values,
            set_classes=_set_classes(rows) | {group_of[IMAGENET]: np.arange(len(card.classes))},
            also={(group, classes[0]): classes[1:] for _, classes, group in rows if classes[1:]},
        )

    def _check(self, root: Path, card: Card) -> None:
        unknown = [name for name in card.sets if name not in FOLDERS]
        if unknown:
            raise DataError(f"no set is called {unknown[0]!r}; there is: {', '.join(FOLDERS)}")
        absent = [f"{name} ({FOLDERS[name]})" for name in card.sets if not (root / FOLDERS[name]).is_dir()]
        if absent:
            raise DataError(
                f"not in {root}: {', '.join(absent)}; get them, or take them out of the card's `sets`"
            )

    def _labelled(
        self, root: Path, card: Card, name: str, others: Others
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Paths of a set's images, each with its classes; into `others` goes what is not read."""
        classes = _classes(root, card, name)
        folders = folder_names(root, FOLDERS[name])
        for folder in folders:
            if folder not in classes and name != OBJECTNET:
                raise DataError(f"{root / FOLDERS[name] / folder} is no class of ImageNet")
            if folder in classes:
                for path in at_least_one(root, f"{FOLDERS[name]}/{folder}", others):
                    yield path, classes[folder]
        if not any(folder in classes for folder in folders):
            raise DataError(f"no folder of a class in {root / FOLDERS[name]}")


def _classes(root: Path, card: Card, name: str) -> Classes:
    if name == "imagenet_v2":
        return {str(label): (label,) for label in range(len(card.classes))}
    if name == OBJECTNET:
        return _objects(root, card)
    if name.startswith("si_score"):
        return _si_score(root, card)
    return {folder: (label,) for label, folder in enumerate(card.folders or card.classes)}


def _set_classes(rows: list[tuple[str, tuple[int, ...], int]]) -> dict[int, np.ndarray]:
    """Of each group, all classes that are right of an image of it, ascending."""
    of: dict[int, set[int]] = {}
    for _, classes, group in rows:
        of.setdefault(group, set()).update(classes)
    return {group: np.array(sorted(classes), np.int64) for group, classes in of.items()}


def _si_score(root: Path, card: Card) -> Classes:
    """The table of SI-Score's repository, a Python file that is read and not run."""
    text = _text(root, SI_SCORE_LABELS)
    try:
        (table,) = (node.value for node in ast.parse(text).body if isinstance(node, ast.Assign))
        classes = {str(name): (int(label),) for name, label in ast.literal_eval(table).items()}
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{root / SI_SCORE_LABELS} is no table of labels: {error}") from error
    return _in_range(classes, root / SI_SCORE_LABELS, card)


def _objects(root: Path, card: Card) -> Classes:
    """ObjectNet's objects that are classes of ImageNet, by folder. Its tables lead from folders to objects,
    from objects to ImageNet's titles (parted by "; "), from these to lines, and from lines to classes."""
    titles = _text(root, f"{MAPPINGS}/imagenet_to_label_2012_v2").splitlines()
    line_of, folder_of_object = (
        _table(root, "pytorch_to_imagenet_2012_id"),
        _table(root, "folder_to_objectnet_label"),
    )
    try:
        class_of = {titles[int(line)].strip(): int(label) for label, line in line_of.items()}
        folders = {name: folder for folder, name in folder_of_object.items()}
        found = {
            folders[name]: tuple(class_of[title] for title in listed.split("; "))
            for name, listed in _table(root, "objectnet_to_imagenet_1k").items()
        }
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(f"the tables in {root / MAPPINGS} do not fit each other: {error!r}") from error
    classes = _in_range(found, root / MAPPINGS, card)
    firsts = {label: title.partition(",")[0] for title, label in class_of.items()}
    labels = {label for right in classes.values() for label in right}
    if 2 * sum(firsts[label] == card.classes[label] for label in labels) < len(labels):
        raise DataError(
            f"classes by the tables in {root / MAPPINGS} have other names on the card {card.name}"
        )
    return classes


def _in_range(classes: Classes, table: Path, card: Card) -> Classes:
    for name, right in classes.items():
        if not set(right) <= set(range(len(card.classes))):
            raise DataError(f"{table}: the class of {name!r} is not in 0..{len(card.classes) - 1}")
    return classes


def _table(root: Path, name: str) -> dict[str, str]:
    path = f"{MAPPINGS}/{name}.json"
    try:
        content = json.loads(_text(root, path))
    except ValueError as error:
        raise DataError(f"{root / path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{root / path} is no table")
    return content


def _text(root: Path, path: str) -> str:
    if not (root / inside(root, path)).is_file():
        raise DataError(f"no file {root / path}")
    return (root / path).read_text(encoding="utf-8")
