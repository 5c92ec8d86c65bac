"""Data sets of a spec, resolved: card, root on disk, index of images, fingerprint."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.card import Card, CardError, load_card
from components.data.columns import Data
from components.data.fingerprint import FileHashes, fingerprint, remember, remembered
from components.data.images import DataError, ImageIndex
from components.data.mask_checks import MaskChecks, check_masks
from components.data.written import unknown
from components.identity import digest
from grid.names import UnknownName, component_class, names
from grid.progress import Display
from grid.spec.build import build
from grid.spec.spec import DatasetEntry, SpecError
from grid.stores.home import HomeError, data_folder, home, place

READERS = "components.data.readers"
GENERATORS = "components.data.generators"
PATIENCE = 2.0  # seconds that a fingerprint may take without a word


@dataclass(frozen=True)
class Dataset:
    """A data set of one launch. `index` and `fingerprint` are None where it is not there (yet); then
    `missing` says what is missing. left_out: files that its layout does not read and masks that cannot be
    used, in words with counts."""

    card: Card
    root: Path | None
    index: ImageIndex | None
    fingerprint: str | None
    missing: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What its readers should know: the card's note, and what was left out."""
        said = [" ".join(self.card.note.split())] if self.card.note else []
        return " ".join([*said, *(f"Left out: {text}." for text in self.left_out)])

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name


@dataclass(frozen=True)
class Source:
    """Where a data set is to be found, before anything was read. `generator`: what can make it."""

    entry: DatasetEntry
    card: Card
    root: Path | None
    generator: Any | None


def locate(entry: DatasetEntry) -> Source:
    """The card of an entry and its root: `root` in the spec, else CONCEPTGRID_DATA/<name>, else the card's,
    else, for a card with a generator, a folder of the home named by the generator's knobs. In a `root`,
    variables and a leading `~` are expanded.

    A spec that gives knobs of the generator means what they draw: of a folder that is there nobody knows by
    which knobs it was drawn. SpecError for an unknown card, layout or generator knob, or a `root` of the spec
    that is not there or stands beside knobs of the generator.
    """
    try:
        card = load_card(entry.name)
    except CardError as error:
        raise SpecError(str(error)) from error
    if card.layout not in names(READERS):
        raise SpecError(f"card of {card.name}: {unknown(card.layout, names(READERS), 'layout')}")
    generator = _generator(card, entry)
    if entry.root and entry.generator:
        raise SpecError(
            f"data set {card.name}: knobs of generator change nothing of what is at root; give one"
        )
    if generator is not None and "image_size" in entry.generator:
        card = card.model_copy(update={"image_size": generator.image_size})
    given = _path(entry.root, card) if entry.root else None
    if given is not None and not given.is_dir():
        why = "; a variable in it is not set" if "$" in str(given) else ""
        raise SpecError(f"data set {card.name}: no folder {given}{why}")
    return Source(entry, card, given or _usual_root(entry, card, generator), generator)


def _usual_root(entry: DatasetEntry, card: Card, generator: Any | None) -> Path | None:
    drawn = None if generator is None else home() / "data" / f"{card.name}-{_identity(generator)}"
    if entry.generator:
        return drawn
    shared = data_folder()
    if shared is not None and (shared / card.name).is_dir():
        return shared / card.name
    if card.root is not None:
        return _path(card.root, card)
    return drawn


def _path(root: str, card: Card) -> Path:
    """The folder of a `root`: variables and a leading `~` are expanded."""
    try:
        return place(os.path.expandvars(root), f"data set {card.name}: root")
    except HomeError as error:
        raise SpecError(str(error)) from error


def _generator(card: Card, entry: DatasetEntry) -> Any | None:
    if card.generator is None:
        if entry.generator:
            raise SpecError(f"data set {card.name} has no generator to set knobs of")
        return None
    knobs = {**card.generator, **entry.generator}
    where = f"data set {card.name}, generator"
    name = str(knobs.pop("name", ""))
    try:
        cls = component_class(GENERATORS, name)
    except UnknownName as error:
        raise SpecError(f"{where}: {error}") from error
    return build(cls, knobs, where)


def _identity(generator: Any) -> str:
    from components.identity import configuration

    return digest([type(generator).VERSION, configuration(generator)])


def make(source: Source, progress: Callable[[int, int], None], workers: int) -> None:
    """Draws the data set if it can be drawn and is not there."""
    if source.root is None or source.root.is_dir() or source.generator is None:
        return
    source.root.parent.mkdir(parents=True, exist_ok=True)
    source.generator.generate(source.root, progress, workers=workers)


def read(source: Source, hashes: FileHashes, display: Display) -> Dataset:
    """The data set's index and fingerprint, or what is missing. SpecError if what is there is wrong.

    The first time every byte of it is read: minutes for a large one, which are shown.
    """
    card, root = source.card, source.root
    if root is None or not root.is_dir():
        return Dataset(card, root, None, None, _missing(source))
    try:
        index = component_class(READERS, card.layout)().read(root, card)
    except DataError as error:
        raise SpecError(f"data set {card.name}: {error}") from error
    if source.entry.images_per_split is not None:
        index = index.limited(source.entry.images_per_split)
    task = display.task(f"fingerprinting {card.name}", len(index), "images", PATIENCE)
    try:
        found = fingerprint(index, hashes, task.update)
    except DataError as error:
        raise SpecError(f"data set {card.name}: {error}") from error
    task.finish(f"{len(index)} images in {task.seconds:.1f} s")
    checks = _mask_checks(card, index, found, hashes, display)
    if any(check.read_otherwise for check in checks):
        found = digest([found, "masks", 2])
    notes = [note for check in checks if (note := check.note())]
    return Dataset(card, root, index, found, left_out=(*index.left_out, *notes))


def _mask_checks(
    card: Card, index: ImageIndex, found: str, hashes: FileHashes, display: Display
) -> list[MaskChecks]:
    """The checks of the masks, remembered beside the hashes by the fingerprint: of the same bytes they are
    the same. SpecError for masks whose values may mean several things."""
    if index.masks is None and index.part_masks is None:
        return []
    memory = hashes.memory.with_name("mask_checks.json")
    known = remembered(memory)
    key = digest([found, index.mask_values == "soft"])
    with suppress(KeyError, TypeError):  # another form, of another version of this program
        return [MaskChecks(**told) for told in known[key]]
    task = display.task(f"checking masks of {card.name}", 2 * len(index), "masks", PATIENCE)
    try:
        checks = check_masks(index, task.update)
    except DataError as error:
        raise SpecError(f"data set {card.name}: {error}") from error
    task.finish(f"{sum(check.n for check in checks)} masks in {task.seconds:.1f} s")
    remember(memory, {**known, key: [check.as_json() for check in checks]})
    return checks


def _missing(source: Source) -> str:
    if source.generator is not None:
        return f"data set {source.card.name} (drawn when the grid runs)"
    looked = source.root or f"CONCEPTGRID_DATA/{source.card.name}"
    return f"data set {source.card.name}: no folder {looked}; set CONCEPTGRID_DATA or `root:`"


def open_data(dataset: Dataset, **contents: Any) -> Data:
    """The data set as a trial or a stage sees it."""
    if dataset.index is None:
        raise ValueError(f"{dataset.name} is not there: {dataset.missing}")
    return Data(dataset.card, dataset.index, **contents)
