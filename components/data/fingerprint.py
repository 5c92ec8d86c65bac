"""The fingerprint of a data set: the hash of every byte that a stage could read from it."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.data.images import DataError, ImageIndex, stored_in
from components.data.mask_files import MaskValues
from components.identity import digest

log = logging.getLogger(__name__)

HASH = re.compile(r"[0-9a-f]{64}")


class FileHashes:
    """sha256 of files, remembered in a JSON file by path, size and modification time."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self._known: dict[str, list[object]] = remembered(memory)

    def of(self, path: Path) -> str:
        """sha256 of the file as 64 hex characters; OSError if it cannot be read."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path))
        if not isinstance(known, list) or known[:2] != stamp or not _is_hash(known[2:]):
            with path.open("rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[str(path)] = known
        return str(known[2])

    def save(self) -> None:
        """Writes the memory, whole or not at all."""
        remember(self.memory, self._known)


def remembered(memory: Path) -> dict[str, Any]:
    """What a file of memory holds. Nothing where a crash has cut it short, and one line says so: it is found
    again."""
    if not memory.is_file():
        return {}
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
        wrong = "not a mapping"
    except ValueError as error:
        wrong = str(error)
    log.warning("%s cannot be read (%s): what it held is found again, and written anew", memory, wrong)
    return {}


def _is_hash(rest: list[object]) -> bool:
    return len(rest) == 1 and isinstance(rest[0], str) and HASH.fullmatch(rest[0]) is not None


def remember(memory: Path, known: Mapping[str, Any]) -> None:
    """Writes a file of memory, whole or not at all. Where it cannot be written, one line says so: all of it
    is found again each time."""
    temporary = memory.with_suffix(f".{os.getpid()}.tmp")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known), encoding="utf-8")
        temporary.replace(memory)
    except OSError as error:
        log.warning("%s cannot be written (%s): what it would hold is found again", memory, error.strerror)


def fingerprint(index: ImageIndex, hashes: FileHashes, progress: Callable[[int], None] | None = None) -> str:
    """Hash of the index (ids, paths, labels, groups, splits), of each image and mask file, of `tables`, and
    of what the card says of the masks' values: not of `soft`, which gives no mask another meaning.

    A file that is listed but missing counts as such: it will be a failure row, not a stop. `progress(done)`
    is called per image. DataError for one that is there and cannot be read.
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
    told: list[Any] = [index.mask_values.model_dump()] if isinstance(index.mask_values, MaskValues) else []
    told += [[table, _hash(index.root / table, hashes)] for table in index.tables]
    return digest([list(index.classes), list(index.group_names), rows, *told])


def _files(index: ImageIndex, row: int) -> list[Path]:
    beside = (index.beside(index.masks, row), index.beside(index.part_masks, row))
    return [stored_in(index.path(row))[0], *(path for path in beside if path is not None)]


def _hash(path: Path, hashes: FileHashes) -> str:
    if not os.path.isfile(path):  # Path's own raises for a name that is too long
        return "missing"
    try:
        return hashes.of(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
