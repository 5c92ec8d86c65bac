"""The fingerprint of a data set: the hash of every byte that a stage could read from it."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from components.data.images import ImageIndex, stored_in
from components.identity import digest


class FileHashes:
    """sha256 of files, remembered in a JSON file by path, size and modification time."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self._known: dict[str, list[object]] = {}
        if memory.is_file():
            self._known = json.loads(memory.read_text())

    def of(self, path: Path) -> str:
        """sha256 of the file as 64 hex characters; OSError if it cannot be read."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path))
        if known is None or known[:2] != stamp:
            with path.open("rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[str(path)] = known
        return str(known[2])

    def save(self) -> None:
        """Writes the memory, whole or not at all."""
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.memory.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self._known))
        temporary.replace(self.memory)


def fingerprint(index: ImageIndex, hashes: FileHashes, progress: Callable[[int], None] | None = None) -> str:
    """Hash of the index (ids, paths, labels, groups, splits) and of each image and mask file.

    A file that is listed but missing counts as such: it will be a failure row, not a stop. `progress(done)`
    is called per image.
    """
    rows = []
    try:
        for row in range(len(index)):
            rows.append(
                [
                    int(index.image_ids[row]),
                    index.paths[row],
                    int(index.labels[row]),
                    int(index.groups[row]),
                    index.splits[row],
                    *(_hash(path, hashes) for path in _files(index, row)),
                ]
            )
            if progress is not None:
                progress(row + 1)
    finally:
        hashes.save()  # what was read is not read again, also after Ctrl-C
    return digest([list(index.classes), list(index.group_names), rows])


def _files(index: ImageIndex, row: int) -> list[Path]:
    beside = (index.beside(index.masks, row), index.beside(index.part_masks, row))
    return [stored_in(index.path(row))[0], *(path for path in beside if path is not None)]


def _hash(path: Path, hashes: FileHashes) -> str:
    return hashes.of(path) if path.is_file() else "missing"
