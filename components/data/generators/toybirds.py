"""Toy birds on toy backgrounds: Waterbirds in small, with the truth about every pixel."""

import csv
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le
from PIL import Image

from components.data.drawing.backgrounds import TEXTURES, background, fogged
from components.data.drawing.bird_drawing import HORN, PARTS, PLUMAGE, Bird, draw
from components.identity import rng

__all__ = ["CLASSES", "PARTS", "PLACES", "SPLITS", "Toybirds"]

CLASSES = ("landbird", "waterbird")  # label y
PLACES = ("land", "water")
SPLITS = ("train", "val", "test")  # coded 0, 1, 2 in metadata.csv
TYPICAL = {  # what a class usually has
    "beak": ("pointed", "flat"),
    "neck": ("short", "long"),
    "tail": ("long", "short"),
    "feet": ("clawed", "webbed"),
}
NOISE = 0.03  # standard deviation, of the range [0, 1]


@dataclass(frozen=True)
class _Row:
    """One image as planned: everything drawn at random below comes from its own stream."""

    img_id: int
    split: str
    index: int  # within the split
    y: int
    place: int

    @property
    def stem(self) -> str:
        return f"{self.img_id:05d}_{CLASSES[self.y]}"


@dataclass(frozen=True, kw_only=True)
class Toybirds:
    """Birds of two classes, most of them in training on the background that goes with the class.

    The class is the majority of four parts (beak, neck, tail, feet), each of which is typical of
    its class with probability `typical`; crest, colour, stripe, pose and size are random. Classes
    are balanced in every split and, in validation and test, places are balanced in each class. In
    training a share `correlation` of each class stands on its own place. Every background is
    blended with a plain colour, by an amount drawn from U(fog_low, fog_high): without it a network
    trained on the biased split looks at nothing else.
    """

    VERSION: ClassVar[int] = 1

    image_size: Annotated[int, Ge(32), Le(512)] = 64  # pixels
    n_train: Annotated[int, Ge(4)] = 2000
    n_val: Annotated[int, Ge(4)] = 600
    n_test: Annotated[int, Ge(4)] = 1000
    correlation: Annotated[float, Ge(0), Le(1)] = 0.95
    typical: Annotated[float, Ge(0.5), Le(1)] = 0.9
    fog_low: Annotated[float, Ge(0), Le(1)] = 0.0
    fog_high: Annotated[float, Ge(0), Le(1)] = 0.95
    seed: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        if self.fog_low > self.fog_high:
            raise ValueError(f"fog_low {self.fog_low} is above fog_high {self.fog_high}")

    def generate(
        self, root: Path, progress: Callable[[int, int], None] | None = None, workers: int = 1
    ) -> None:
        """Draw the data set into `root`, which appears only when it is complete.

        root/metadata.csv       the Waterbirds release's columns
        root/attributes.csv     img_id and everything that was drawn
        root/images/<stem>.jpg  (image_size, image_size, 3), JPEG quality 95
        root/masks/<stem>.png   1 bit, the bird
        root/parts/<stem>.png   8 bit, 0 nothing, k the k-th of PARTS

        The bytes depend on the knobs alone. `progress(done, total)` is called per image.
        Raises FileExistsError where `root` exists; what a killed run left behind is cleared.
        """
        root = Path(root)
        if root.exists():
            raise FileExistsError(f"{root} exists; remove it to generate the data set again")
        partial = root.with_name(f".{root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for folder in ("images", "masks", "parts"):
            (partial / folder).mkdir(parents=True)
        rows = list(self._plan())
        attributes = []
        for done, drawn in enumerate(self._draw_all(rows, partial, workers), start=1):
            attributes.append(drawn)
            if progress is not None:
                progress(done, len(rows))
        _write_csv(
            partial / "metadata.csv",
            [_metadata(*pair) for pair in zip(rows, attributes, strict=True)],
        )
        _write_csv(partial / "attributes.csv", attributes)
        partial.rename(root)

    def _plan(self) -> Iterator[_Row]:
        """Labels and places of every split in random order."""
        img_id = 0
        for split, n in zip(SPLITS, (self.n_train, self.n_val, self.n_test), strict=True):
            aligned = self.correlation if split == "train" else 0.5
            labels = np.arange(n) % 2
            rank = np.arange(n) // 2  # within the class
            own_place = rank < np.round(aligned * np.bincount(labels))[labels]
            order = rng(self.seed, "toybirds", split, "plan").permutation(n)
            for index, i in enumerate(order):
                y = int(labels[i])
                yield _Row(img_id, split, index, y, y if own_place[i] else 1 - y)
                img_id += 1

    def _draw_all(self, rows: list[_Row], folder: Path, workers: int) -> Iterator[dict[str, Any]]:
        """Write the pictures of `rows`; yields their attributes in order."""
        if workers == 1:
            yield from (self._write(row, folder) for row in rows)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            yield from pool.map(self._write, rows, [folder] * len(rows), chunksize=32)

    def _write(self, row: _Row, folder: Path) -> dict[str, Any]:
        random = rng(self.seed, "toybirds", row.split, row.index)
        bird = self._bird(random, row.y)
        texture = str(random.choice(TEXTURES[PLACES[row.place]]))
        fog = random.uniform(self.fog_low, self.fog_high)
        scene = fogged(background(random, texture, row.split, self.image_size), fog, random)
        image, parts = draw(bird, scene, random)
        image += random.normal(0, NOISE, image.shape)
        pixels = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
        # full colour resolution: parts are a few pixels wide
        path = folder / "images" / f"{row.stem}.jpg"
        Image.fromarray(pixels).save(path, quality=95, subsampling=0)
        Image.fromarray(parts > 0).save(folder / "masks" / f"{row.stem}.png")
        Image.fromarray(parts).save(folder / "parts" / f"{row.stem}.png")
        return {"img_id": row.img_id, **asdict(bird), "background": texture, "fog": fog}

    def _bird(self, random: np.random.Generator, y: int) -> Bird:
        """A random bird with the majority of class parts of class `y`; ties are drawn again."""
        typical = np.zeros(len(TYPICAL), dtype=bool)
        while typical.sum() <= len(typical) / 2:
            typical = random.random(len(TYPICAL)) < self.typical
        kinds = zip(TYPICAL.items(), typical, strict=True)
        class_parts: dict[str, Any] = {part: of[y if own else 1 - y] for (part, of), own in kinds}
        return Bird(
            **class_parts,
            crest=bool(random.random() < 0.5),
            stripe=bool(random.random() < 0.5),
            colour=str(random.choice(list(PLUMAGE))),
            horn=str(random.choice(list(HORN))),
            scale=random.uniform(0.75, 1.1),
            rotation=random.uniform(-15, 15),
            flip=bool(random.random() < 0.5),
        )


def _metadata(row: _Row, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "img_id": row.img_id,
        "img_filename": f"images/{row.stem}.jpg",
        "y": row.y,
        "split": SPLITS.index(row.split),
        "place": row.place,
        # Waterbirds names the photograph here; ours is a crop of a texture
        "place_filename": f"{PLACES[row.place]}/{attributes['background']}",
    }


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
