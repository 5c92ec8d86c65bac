"""The image files of a folder, as torchvision's ImageFolder finds them, and what is left out, with counts."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.data.images import DataError, inside

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
HIDDEN = (".", "__MACOSX")  # what names begin with: hidden files, AppleDouble files (._a.jpg), their folder


def image_files(
    root: Path, folder: str, others: Counter[str] | None = None, refuse: bool = True
) -> list[str]:
    """Paths, relative to the root, of all images in a folder and in the folders in it, hidden ones left out:
    by folder, then by name. None without the folder.

    others: counts the files that are no images, by their suffix; refuse: whether a link that leads out of the
    root is a DataError, or left out.
    """
    found = []
    for parent, names in sorted(_walk(root, folder, refuse)):
        found += [f"{parent}/{name}" for name in names if is_image(name)]
        if others is not None:
            others.update(_suffix(name) or "none" for name in names if not is_image(name))
    return found


def at_least_one(root: Path, folder: str, others: Counter[str] | None = None) -> list[str]:
    """The same; DataError if there is none."""
    found = image_files(root, inside(root, folder), others)
    if not found:
        raise DataError(f"no image in {root / folder}")
    return found


def is_image(name: str) -> bool:
    """Whether the name's suffix is that of an image, in any case."""
    return _suffix(name) in IMAGE_SUFFIXES


def folder_names(root: Path, folder: str) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out; none without the folder."""
    return [name for name, is_folder in _entries(root, folder, refuse=False) if is_folder]


def loose_images(root: Path, folder: str) -> int:
    """How many images lie in a folder itself."""
    return sum(is_image(name) for name, is_folder in _entries(root, folder, refuse=False) if not is_folder)


def unread(root: Path, folders: Iterable[str], why: str) -> list[str]:
    """Of folders that a layout does not read, those that hold images, in words with counts."""
    counts = {folder: len(image_files(root, folder, refuse=False)) for folder in folders}
    return [f"{folder} ({_images(count)}), {why}" for folder, count in counts.items() if count]


def not_images(others: Counter[str]) -> list[str]:
    """Files that are no images, counted by suffix, in words."""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return [f"files whose suffix is no image's: {kinds}"] if others else []


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _walk(root: Path, folder: str, refuse: bool) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `folder` down, with the names of its files."""
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        entries = _entries(root, parent, refuse)
        yield parent, [name for name, is_folder in entries if not is_folder]
        waiting += [f"{parent}/{name}" for name, is_folder in entries if is_folder]


def _entries(root: Path, folder: str, refuse: bool) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder. Only what is a link can lead out of the root,
    or in a circle: asking that of each of ImageNet's files takes minutes."""
    try:
        with os.scandir(root / folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = []
    for entry in sorted(found, key=lambda entry: entry.name):
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if Path(os.path.realpath(root / folder)).is_relative_to(target):
                continue  # a circle
            if not refuse and not target.is_relative_to(os.path.realpath(root)):
                continue
            inside(root, os.path.relpath(entry.path, root))
        names.append((entry.name, entry.is_dir()))
    return names
