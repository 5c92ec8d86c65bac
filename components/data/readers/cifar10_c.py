"""The release of CIFAR-10-C (Hendrycks and Dietterich 2019), and CIFAR-10's training images beside it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card
from components.data.image_files import Others, at_least_one
from components.data.images import DataError, ImageIndex, inside
from components.data.validation_split import with_validation_split

RELEASE = "CIFAR-10-C"
LABELS = "labels.npy"
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)  # the 15 that count; the release has 4 more
SEVERITIES = 5


class Cifar10C:
    """train/<class>/<image>, and the release's folder CIFAR-10-C: for each corruption an array of all test
    images at severity 1, then at 2 and so on, and labels.npy.

    A fixed tenth of the training images is the validation split; the groups of both are the classes. In test
    the groups are "<corruption> <severity>".
    """

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names what is missing or does not fit."""
        others = Others()
        paths, labels = self._train(root, card, others)
        test_labels = self._test_labels(root, card)
        cells = np.arange(len(test_labels)) // (len(test_labels) // SEVERITIES)  # severity - 1 of each row
        n_test = len(CORRUPTIONS) * len(test_labels)
        names = [f"{name} {severity}" for name in CORRUPTIONS for severity in range(1, SEVERITIES + 1)]
        groups = [cells + len(card.classes) + SEVERITIES * i for i in range(len(CORRUPTIONS))]
        paths += [f"{RELEASE}/{name}.npy#{row}" for name in CORRUPTIONS for row in range(len(test_labels))]
        splits = np.repeat(np.array(["train", "test"], dtype=object), [len(labels), n_test])
        return ImageIndex(
            root=root,
            image_ids=np.arange(len(paths), dtype=np.int64),
            paths=np.array(paths, dtype=object),
            labels=np.concatenate([labels, np.tile(test_labels, len(CORRUPTIONS))]),
            groups=np.concatenate([labels, *groups]),
            splits=with_validation_split(splits),
            classes=card.classes,
            group_names=(*card.classes, *names),
            left_out=tuple(others.told()),
        )

    def _train(self, root: Path, card: Card, others: Others) -> tuple[list[str], NDArray[np.int64]]:
        paths, labels = [], []
        for label, name in enumerate(card.classes):
            files = at_least_one(root, f"train/{name}", others)
            paths += files
            labels += [label] * len(files)
        return paths, np.array(labels, dtype=np.int64)

    def _test_labels(self, root: Path, card: Card) -> NDArray[np.int64]:
        """Labels of an array's rows; every array has as many."""
        labels = self._array(root, LABELS)
        if labels.ndim != 1 or len(labels) == 0 or len(labels) % SEVERITIES:
            raise DataError(f"{RELEASE}/{LABELS} has shape {labels.shape}, not {SEVERITIES} times the images")
        if not np.isin(labels, range(len(card.classes))).all():
            raise DataError(f"{RELEASE}/{LABELS}: labels must be 0..{len(card.classes) - 1}")
        for name in CORRUPTIONS:
            images = self._array(root, f"{name}.npy")
            if len(images) != len(labels):
                raise DataError(f"{RELEASE}/{name}.npy has {len(images)} images, {LABELS} {len(labels)}")
        return np.array(labels, dtype=np.int64)

    def _array(self, root: Path, name: str) -> NDArray[np.int64]:
        path = root / inside(root, f"{RELEASE}/{name}")
        if not path.is_file():
            raise DataError(f"no file {path}")
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise DataError(f"{path} is no array: {error}") from error
