"""Toy birds as CLIP sees them: whole, with a red circle, as segments; and what each view shows.

N: images, S: side in pixels.
"""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import slic

from components.data.generators.toybirds import PARTS, SPLITS
from components.pixels.crops import segment_crops

Pixels = NDArray[np.uint8]  # (S, S, 3) red green blue
Shown = dict[str, str]  # a bird's part, or "background", to the phrase that names what it shows

RED = (255, 0, 0)
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


def caption(shown: Shown, with_background: bool = True) -> str:
    """Everything that is shown, in one sentence."""
    named = [
        shown[part] for part in ("beak", "neck", "tail", "feet", "crest", "wing", "body") if part in shown
    ]
    return f"a bird with {', '.join(named)}" + (f" on {shown['background']}" if with_background else "")


def circled(image: Pixels, x: float, y: float, radius: float) -> Pixels:
    """`image` with a red circle of 1 pixel round (x, y); what lies beyond the frame is cut off."""
    picture = Image.fromarray(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(picture).ellipse(box, outline=RED, width=1)
    return np.asarray(picture)


def crop(image: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """One segment, cut out as the stages do it; the mask must not be empty."""
    return np.asarray(segment_crops(image, mask[None], len(image))[0])


def part_name(index: int) -> str:
    """What a pixel of a parts image shows: one of PARTS, or "background" for 0."""
    return PARTS[index - 1] if index else "background"
