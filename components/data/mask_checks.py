"""Whether the masks of a data set can be read and mean one thing, all of them looked at before any work."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.data.images import DataError, ImageIndex
from components.data.mask_files import (
    IGNORE,
    MAJORITY,
    AmbiguousMask,
    distinct,
    fit,
    meant,
    parts,
    shown,
    stored_values,
)
from components.data.written import one_line

NAMED = 3  # files that a note names


@dataclass
class MaskChecks:
    """Of the masks of one sort (of objects, or of parts) of n images: how many there are, the files that are
    missing and those that cannot be used with the reason, paths relative to the root; and whether some are
    read otherwise than version 1 of this reading did, so that numbers are others: palettes, greys saved in
    colours, a border in parts, and what cannot be used."""

    sort: str
    n: int
    missing: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    read_otherwise: bool = False

    def note(self) -> str:
        """What is left out, in words with counts; empty if nothing is."""
        if len(self.missing) == self.n:
            return f"{self.sort}: no file of {self.n} is there, {self.missing[0]} and so on"
        reasons = [f"{path}: {reason}" for path, reason in self.unusable.items()]
        listed = [(self.missing, "missing"), (reasons, "cannot be used")]
        told = "; ".join(_named(files, what) for files, what in listed if files)
        return f"{self.sort}: {told}; of {self.n}, these are left out of what needs them" if told else ""

    def as_json(self) -> dict[str, Any]:
        """As JSON, which the constructor takes."""
        return asdict(self)


def _named(files: list[str], what: str) -> str:
    more = ", …" if len(files) > NAMED else ""
    return f"{len(files)} {what} ({', '.join(files[:NAMED])}{more})"


def check_masks(index: ImageIndex, progress: Callable[[int], None] | None = None) -> list[MaskChecks]:
    """The checks of each sort of masks that the index has. `progress(done)` is called per file.

    DataError for a mask whose values may mean several things, alone or beside the others' values.
    """
    sorts = [("masks", index.masks), ("masks of parts", index.part_masks)]
    done = 0
    found = []
    for sort, pattern in sorts:
        paths = [(row, index.beside(pattern, row)) for row in range(len(index))]
        there = [(row, path) for row, path in paths if path is not None]
        checks = MaskChecks(sort, len(there))
        values: dict[frozenset[int], str] = {}
        for row, path in there:
            _check(index, row, path, sort, checks, values)
            done += 1
            if progress is not None:
                progress(done)
        if sort == "masks" and index.mask_values is None:
            _mean_one_thing(values)
        found += [checks] if there else []
    return found


def _check(
    index: ImageIndex,
    row: int,
    path: Path,
    sort: str,
    checks: MaskChecks,
    values: dict[frozenset[int], str],
) -> None:
    name = one_line(path.relative_to(index.root).as_posix())
    if not os.path.isfile(path):  # Path's own raises for a name that is too long
        checks.missing.append(name)
        return
    try:
        numbers, plain = stored_values(path)
        mask = meant(numbers, path.name, index.mask_values) if sort == "masks" else parts(numbers, path.name)
        fit(mask, index.path(row))
    except AmbiguousMask as error:
        raise DataError(f"{name}: {error}") from error
    except (OSError, ValueError) as error:
        checks.unusable[name], checks.read_otherwise = str(error), True
        return
    of_file = distinct(numbers)
    checks.read_otherwise |= not plain or (sort != "masks" and IGNORE in of_file)
    if numbers.dtype != bool:
        values.setdefault(frozenset(of_file), name)


def _mean_one_thing(values: dict[frozenset[int], str]) -> None:
    """DataError where 255 is a border in one mask and may be the object in another, and where the object has
    another value in each."""
    border = next((name for found, name in values.items() if {1, IGNORE} <= found), None)
    bright = {max(found): name for found, name in values.items() if 1 not in found and max(found) > MAJORITY}
    mends = "say in the card what they mean, mask_values: {object: [..], ignore: [..]}"
    if border is not None and bright:
        other = next(iter(bright.values()))
        raise DataError(f"mask {border} has 1 and {IGNORE}, mask {other} {IGNORE} and no 1: {mends}")
    if len(bright) > 1:
        two = " and ".join(list(bright.values())[:2])
        raise DataError(f"objects have the values {shown(set(bright))} in {two}: {mends}")
