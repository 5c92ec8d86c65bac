"""The image files of a folder, as torchvision's ImageFolder finds them, and what is left out, with counts."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from components.data.images import DataError, inside
from components.data.written import one_line

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
HIDDEN = (".", "__MACOSX")  # what names begin with: hidden files, AppleDouble files (._a.jpg), their folder


@dataclass
class Others:
    """What of folders is not read: files that are no images, counted by suffix, and files and folders whose
    names are no UTF-8, which no table, log or database takes."""

    suffixes: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """The same in words with counts; empty if there is none."""
        kinds = ", ".join(f"{count} {one_line(suffix)}" for suffix, count in sorted(self.suffixes.items()))
        said = [f"files whose suffix is no image's: {kinds}"] if kinds else []
        if self.names:
            first = os.fsencode(self.names[0])
            said.append(f"{len(self.names)} whose names are no UTF-8, such as {first!r}: rename them")
        return said


def image_files(root: Path, folder: str, others: Others | None = None, refuse: bool = True) -> list[str]:
    """Paths, relative to the root, of all images in a folder and in the folders in it, hidden ones left out:
    by folder, then by name. None without the folder.

    others: what is not read is entered there; refuse: whether a link that leads out of the root is a
    DataError, or left out.
    """
    found = []
    others = Others() if others is None else others
    for parent, names in sorted(_walk(root, folder, refuse, others)):
        found += [f"{parent}/{name}" for name in names if is_image(name)]
        others.suffixes.update(_suffix(name) or "none" for name in names if not is_image(name))
    return found


def at_least_one(root: Path, folder: str, others: Others | None = None) -> list[str]:
    """The same; DataError if there is none."""
    found = image_files(root, inside(root, folder), others)
    if not found:
        raise DataError(f"no image in {root / folder}")
    return found


def is_image(name: str) -> bool:
    """Whether the name's suffix is that of an image, in any case."""
    return _suffix(name) in IMAGE_SUFFIXES


def folder_names(root: Path, folder: str, others: Others | None = None) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out; none without the folder. Into `others`
    go names that are no UTF-8."""
    entries = _entries(root, folder, False, Others() if others is None else others)
    return [name for name, is_folder in entries if is_folder]


def loose_images(root: Path, folder: str) -> int:
    """How many images lie in a folder itself."""
    return sum(is_image(name) for name, is_folder in _entries(root, folder, False, Others()) if not is_folder)


def unread(root: Path, folders: Iterable[str], why: str) -> list[str]:
    """Of folders that a layout does not read, those that hold images, in words with counts."""
    counts = {folder: len(image_files(root, folder, refuse=False)) for folder in folders}
    return [f"{one_line(folder)} ({_images(count)}), {why}" for folder, count in counts.items() if count]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _walk(root: Path, folder: str, refuse: bool, others: Others) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `folder` down, with the names of its files."""
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        entries = _entries(root, parent, refuse, others)
        yield parent, [name for name, is_folder in entries if not is_folder]
        waiting += [f"{parent}/{name}" for name, is_folder in entries if is_folder]


def _entries(root: Path, folder: str, refuse: bool, others: Others) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder. Only what is a link can lead out of the root,
    or in a circle: asking that of each of ImageNet's files takes minutes."""
    try:
        with os.scandir(root / folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = []
    for entry in sorted(found, key=lambda entry: entry.name):
        if not _is_text(entry.name):
            others.names.append(f"{folder}/{entry.name}")
            continue
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if Path(os.path.realpath(root / folder)).is_relative_to(target):
                continue  # a circle
            if not refuse and not target.is_relative_to(os.path.realpath(root)):
                continue
            inside(root, os.path.relpath(entry.path, root))
        names.append((entry.name, entry.is_dir()))
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # its bytes are no UTF-8
        return False
    return True
