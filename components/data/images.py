"""The images of a data set: which there are, and how one is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.mask_files import Meaning
from components.identity import rng

SPLITS = ("train", "val", "test")
MAX_PIXELS = 64_000_000  # a larger image is refused before it is decoded


class DataError(ValueError):
    """A data set on disk is missing, malformed, or points outside its own root."""


@dataclass(frozen=True)
class ImageIndex:
    """One row per image (n rows), sorted by `image_ids`; paths are relative to `root`.

    image_ids int64 (n,), unique; labels int64 (n,) in 0..C-1; groups int64 (n,) in 0..G-1;
    splits: text (n,), each of SPLITS; `classes` and `group_names` name labels and groups.
    `masks`, `part_masks`: path patterns of the card, with `{stem}`, or None; `mask_values`: what the card
    says of the masks' values;
    `tables`: files below the root that say more of the images, and are part of what the data set is;
    `left_out`: what lies beside the images and is not in the index, in words with counts.
    """

    root: Path
    image_ids: NDArray[np.int64]
    paths: NDArray[np.object_]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    splits: NDArray[np.object_]
    classes: tuple[str, ...]
    group_names: tuple[str, ...]
    masks: str | None = None
    part_masks: str | None = None
    mask_values: Meaning = None
    tables: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, selected: NDArray[Any]) -> "ImageIndex":
        """The index of the selected rows (boolean mask or positions)."""
        names = ("image_ids", "paths", "labels", "groups", "splits")
        return replace(self, **{name: getattr(self, name)[selected] for name in names})

    def group_sizes(self) -> dict[str, dict[str, int]]:
        """Images of each group, by split; groups that a split lacks are left out."""
        found: dict[str, dict[str, int]] = {}
        for split in sorted(set(self.splits)):
            numbers, counts = np.unique(self.groups[self.splits == split], return_counts=True)
            found[str(split)] = {
                self.group_names[number]: int(count) for number, count in zip(numbers, counts, strict=True)
            }
        return found

    def limited(self, images_per_split: int) -> "ImageIndex":
        """At most `images_per_split` images of each split, the groups' shares kept; but one of each group.

        The choice is the same on every machine: a fixed stream ranks the images of each group.
        """
        order = rng(0, "images_per_split").random(len(self))
        keep = np.zeros(len(self), dtype=bool)
        for split in SPLITS:
            rows = np.flatnonzero(self.splits == split)
            share = min(1.0, images_per_split / max(len(rows), 1))
            for group in np.unique(self.groups[rows]):
                members = rows[self.groups[rows] == group]
                count = max(1, int(len(members) * share))
                keep[members[np.argsort(order[members])[:count]]] = True
        return self.rows(keep)

    def path(self, row: int) -> Path:
        """Absolute path of the image in this row."""
        return self.root / self.paths[row]

    def beside(self, pattern: str | None, row: int) -> Path | None:
        """Absolute path of the file that `pattern` (masks or part masks) gives for this row."""
        if pattern is None:
            return None
        relative = Path(self.paths[row])
        parts = relative.parts[1:] if relative.parts[0] == "images" else relative.parts
        stem = str(Path(*parts).with_suffix(""))
        return self.root / pattern.format(stem=stem)


def inside(root: Path, relative: str) -> str:
    """`relative` as given if it stays below `root`, else DataError."""
    try:
        stays = (root / relative).resolve().is_relative_to(root.resolve())
    except (RuntimeError, ValueError) as error:  # a circle of links, a NUL
        raise DataError(f"{relative!r} leads nowhere: {error}") from error
    if not stays:
        raise DataError(f"{relative!r} points outside the data set's root {root}")
    return relative


def stored_in(path: Path) -> tuple[Path, int | None]:
    """The file of an image, and which row of it the image is where the file is an array: `fog.npy#17`."""
    stem, is_row, row = path.name.rpartition(".npy#")
    return (path.with_name(f"{stem}.npy"), int(row)) if is_row and row.isdecimal() else (path, None)


def decode(path: Path) -> NDArray[np.uint8]:
    """The image as RGB uint8 (H, W, 3), its pixels where the file has them: an EXIF orientation is for
    viewers, and masks and boxes of data sets lie on the stored pixels. 16 bits are cut to the upper 8.

    Raises OSError if it cannot be read whole, ValueError if it is too large or has no range of values.
    """
    file, row = stored_in(path)
    if row is not None:
        return _row_of_array(file, row)
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            return _rgb(image)
    except (OSError, ValueError):
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # a broken file makes Pillow's plugins raise SyntaxError and others
        raise OSError(f"broken image file: {error}") from error


def _row_of_array(file: Path, row: int) -> NDArray[np.uint8]:
    try:
        images = np.load(file, mmap_mode="r")
    except EOFError as error:
        raise OSError(f"broken array file: {error}") from error
    if images.dtype != np.uint8 or images.shape[3:] != (3,):
        raise ValueError(f"{file.name}: expected uint8 (n, H, W, 3), got {images.dtype} {images.shape}")
    if row >= len(images):
        raise ValueError(f"{file.name} has {len(images)} images, none in row {row}")
    return np.array(images[row])


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pillow's own conversion turns 16 bits, integers and floats to white or black without a word."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode in {"I", "F"}:
        raise ValueError(f"pixels of mode {image.mode} have no defined range; store 8 or 16 bits")
    return np.asarray(image.convert("RGB"))


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image as a square of `size` pixels, uint8 (size, size, 3), bilinear with anti-aliasing."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices that cut 0..n-1 in blocks of `size`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
