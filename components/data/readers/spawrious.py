"""The release of Spawrious (Lynch et al. 2023, arXiv 2303.05470) at 224 pixels, in its six benchmarks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.data.card import Card
from components.data.image_files import Others, at_least_one
from components.data.images import DataError, ImageIndex
from components.data.validation_split import with_validation_split

BREEDS = ("bulldog", "dachshund", "labrador", "corgi")  # in the order of the places below
# of each benchmark: the breeds' places in training, in test, and the place where all breeds are seen a little
PLACES: dict[str, tuple[str, str, str | None]] = {
    "o2o_easy": ("desert jungle dirt snow", "dirt snow desert jungle", "beach"),
    "o2o_medium": ("mountain beach dirt jungle", "jungle dirt beach snow", "desert"),
    "o2o_hard": ("jungle mountain snow desert", "mountain snow desert jungle", "beach"),
    "m2m_easy": ("desert mountain dirt jungle", "dirt jungle mountain desert", None),
    "m2m_medium": ("beach snow mountain desert", "desert mountain beach snow", None),
    "m2m_hard": ("dirt jungle snow beach", "snow beach dirt jungle", None),
}
IMAGES = 3168  # of one breed on one place in one folder
CORRELATIONS = (0.97, 0.87)  # of one-to-one benchmarks: shares of a breed on its own place, by folder
SWAPPED = (1, 0, 3, 2)  # of many-to-many benchmarks: the pair whose second place a breed is seen on

_Part = tuple[str, int, str, str, int]  # split, folder, place, breed, images at most


class Spawrious:
    """<folder>/<place>/<breed>/<image> with the folders 0 and 1: what the release's spawrious224 holds. The
    card's name ends with the benchmark: spawrious_o2o_hard.

    One-to-one: a breed stands on its own place in 97 % of folder 0 and 87 % of folder 1, and else on the
    place that all share; on another breed's or a new place in test. Many-to-many: two breeds share two
    places, and stand on others in test; all of folder 0. Of a folder the first images by name are taken. The
    release has no validation split: a fixed tenth of the training images is. Groups are breeds on places.
    """

    def read(self, root: Path, card: Card) -> ImageIndex:
        """The index of `root`; DataError names the folder that has no image, or an unknown benchmark."""
        benchmark = card.name.removeprefix("spawrious_")
        if benchmark not in PLACES:
            known = ", ".join(f"spawrious_{name}" for name in PLACES)
            raise DataError(f"no benchmark of Spawrious is called {card.name!r}; there is: {known}")
        others = Others()
        rows = [
            (path, split, breed, place)
            for split, folder, place, breed, limit in _parts(benchmark)
            for path in at_least_one(root, f"{folder}/{place}/{breed}", others)[:limit]
        ]
        labels = np.array([card.classes.index(breed) for _, _, breed, _ in rows], dtype=np.int64)
        places = np.array([card.places.index(place) for _, _, _, place in rows], dtype=np.int64)
        return ImageIndex(
            root=root,
            image_ids=np.arange(len(rows), dtype=np.int64),
            paths=np.array([path for path, _, _, _ in rows], dtype=object),
            labels=labels,
            groups=labels * len(card.places) + places,
            splits=with_validation_split(np.array([split for _, split, _, _ in rows], dtype=object)),
            classes=card.classes,
            group_names=tuple(f"{breed} on {place}" for breed in card.classes for place in card.places),
            left_out=tuple(others.told()),
        )


def _parts(benchmark: str) -> Iterator[_Part]:
    """Which folders a benchmark is made of, and how many images it takes of each."""
    train, test, shared = PLACES[benchmark]
    for split, places in (("train", train.split()), ("test", test.split())):
        for position, breed in enumerate(BREEDS):
            if shared is None:
                yield split, 0, places[position], breed, IMAGES
                yield split, 0, places[SWAPPED[position]], breed, IMAGES
                continue
            for folder, correlation in enumerate(CORRELATIONS):
                own = int(correlation * IMAGES)
                yield split, folder, places[position], breed, own if split == "train" else IMAGES
                if split == "train":
                    yield split, folder, shared, breed, IMAGES - own
