"""The birds that the small models are taught and measured on, with the truth about them.

N: images, S: side in pixels.
"""

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import slic

from components.data.generators.toybirds import SPLITS, Toybirds

Pixels = NDArray[np.uint8]  # (S, S, 3) red green blue
Shown = dict[str, str]  # a bird's part, or "background", to the phrase that names what it shows

TRAINING_DATA_SEED, HELD_OUT_DATA_SEED = 7001, 7002  # of no experiment
HEAVY_FOG = 0.6  # from this amount on a background is called fog


@dataclass(frozen=True)
class Birds:
    """The images of one split with the truth about them.

    images uint8 (N, S, S, 3); parts uint8 (N, S, S), 0 background, k the k-th of PARTS;
    shown: what the parts of each bird and its background are called; fog (N,) in [0, 1].
    """

    images: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    shown: list[Shown]
    classes: list[str]
    fog: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: NDArray[np.int64]) -> "Birds":
        """The birds at these positions."""
        chosen = [(self.shown[i], self.classes[i]) for i in rows]
        shown, classes = [s for s, _ in chosen], [c for _, c in chosen]
        return Birds(self.images[rows], self.parts[rows], shown, classes, self.fog[rows])

    @cached_property
    def superpixels(self) -> NDArray[np.uint8]:
        """Superpixels of each image, numbered from 1: (N, S, S)."""
        return np.stack([slic(image, n_segments=25) for image in self.images]).astype(np.uint8)


def load_birds(root: Path, split: str) -> Birds:
    """Read one split of a generated data set."""
    with (root / "metadata.csv").open(encoding="utf-8") as file:
        metadata = list(csv.DictReader(file))
    with (root / "attributes.csv").open(encoding="utf-8") as file:
        attributes = list(csv.DictReader(file))
    code = str(SPLITS.index(split))
    rows = [pair for pair in zip(metadata, attributes, strict=True) if pair[0]["split"] == code]
    stems = [Path(row["img_filename"]).stem for row, _ in rows]
    return Birds(
        images=np.stack([np.asarray(Image.open(root / row["img_filename"])) for row, _ in rows]),
        parts=np.stack([np.asarray(Image.open(root / "parts" / f"{stem}.png")) for stem in stems]),
        shown=[phrases(drawn) for _, drawn in rows],
        classes=[stem.partition("_")[2] for stem in stems],
        fog=np.array([float(drawn["fog"]) for _, drawn in rows]),
    )


def phrases(drawn: dict[str, str]) -> Shown:
    """What a row of attributes.csv shows, part by part, in the words of the vocabulary."""
    shown = {part: f"{drawn[part]} {part}" for part in ("beak", "neck", "tail", "feet")}
    shown |= {"head": "head", "body": f"{drawn['colour']} body"}
    shown["wing"] = "striped wing" if drawn["stripe"] == "True" else "plain wing"
    if drawn["crest"] == "True":
        shown["crest"] = "crest"
    shown["background"] = "fog" if float(drawn["fog"]) > HEAVY_FOG else drawn["background"]
    return shown


def draw_birds(
    n_train: int,
    n_val: int,
    n_test: int,
    training: Mapping[str, Any] | None = None,
    held_out: Mapping[str, Any] | None = None,
) -> tuple[Birds, Birds, Birds]:
    """Birds to train on, to select on and, of another data set, to measure on; places are balanced in all.
    training, held_out: knobs of the generator beside its defaults."""
    chosen = {"seed": TRAINING_DATA_SEED, "correlation": 0.5, **(training or {})}
    with tempfile.TemporaryDirectory() as folder:
        taught, measured = Path(folder) / "training", Path(folder) / "held_out"
        Toybirds(n_train=n_train, n_val=n_val, n_test=4, **chosen).generate(taught)
        measuring = {"seed": HELD_OUT_DATA_SEED, **(held_out or {})}
        Toybirds(n_train=4, n_val=4, n_test=n_test, **measuring).generate(measured)
        return load_birds(taught, "train"), load_birds(taught, "val"), load_birds(measured, "test")


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """x0 y0 x1 y1 of a mask (H, W) with a pixel: the edges of its outermost pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
