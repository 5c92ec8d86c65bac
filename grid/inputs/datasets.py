"""Data sets of a spec, resolved: card, root on disk, index of images, fingerprint."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.data.card import Card, CardError, load_card
from components.data.columns import Data
from components.data.fingerprint import FileHashes, fingerprint, remember, remembered
from components.data.images import DataError, ImageIndex
from components.data.mask_checks import MaskChecks, check_masks
from components.data.written import unknown
from components.identity import configuration, digest
from grid.names import component_class, names
from grid.progress import Display
from grid.results.entry import shown_values
from grid.spec.drawings import drawings, generator_of
from grid.spec.spec import DatasetEntry, Spec, SpecError
from grid.stores.home import HomeError, data_folder, home, place

READERS = "components.data.readers"
PATIENCE = 2.0  # seconds that a fingerprint may take without a word


@dataclass(frozen=True)
class Dataset:
    """A data set of one launch. `index` and `fingerprint` are None where it is not there (yet); then
    `missing` says what is missing. left_out: files that its layout does not read and masks that cannot be
    used, in words with counts. drawing: the knobs of the `generator` that drew it, if one did, and its
    `images_per_split`, if not all of it is taken. own: where the spec has it drawn in several ways, the knobs
    in which this one differs."""

    card: Card
    root: Path | None
    index: ImageIndex | None
    fingerprint: str | None
    missing: str = ""
    left_out: tuple[str, ...] = ()
    drawing: Mapping[str, Any] = field(default_factory=dict)
    own: str = ""

    @property
    def note(self) -> str:
        """What its readers should know: the card's note, and what was left out."""
        said = [" ".join(self.card.note.split())] if self.card.note else []
        return " ".join([*said, *(f"Left out: {text}." for text in self.left_out)])

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def label(self) -> str:
        """The name, and what tells it apart from other drawings in the spec."""
        return f"{self.name} ({self.own})" if self.own else self.name


@dataclass(frozen=True)
class Source:
    """Where a data set is to be found, before anything was read. `generator`: what can make it; `own`: see
    Dataset."""

    entry: DatasetEntry
    card: Card
    root: Path | None
    generator: Any | None
    own: str = ""

    @property
    def label(self) -> str:
        """As a data set's."""
        return f"{self.card.name} ({self.own})" if self.own else self.card.name

    @property
    def drawing(self) -> dict[str, Any]:
        """See Dataset; without knobs where something else may have made what lies at the root."""
        made = self.generator is not None and self.root == _drawn_root(self.card, self.generator)
        limit = self.entry.images_per_split
        return ({"generator": configuration(self.generator)} if made else {}) | (
            {} if limit is None else {"images_per_split": limit}
        )


def sources(spec: Spec) -> list[Source]:
    """Where each data set of a spec is to be found; those of one card are told apart by what differs between
    their generators. SpecError as `drawings` and `locate`."""
    found = [locate(entry) for entry in drawings(spec)]
    return [replace(source, own=_own(source, found)) for source in found]


def _own(source: Source, among: Sequence[Source]) -> str:
    """The generator's knobs in which others of the card differ."""
    same = [one.drawing for one in among if one.card.name == source.card.name]
    knobs = [shown_values(one) for one in same]
    own = shown_values(source.drawing)
    varied = [
        f"{name.removeprefix('generator.')}={value}"
        for name, value in own.items()
        if any(value != k.get(name) for k in knobs)
    ]
    return ", ".join(varied)


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


def _drawn_root(card: Card, generator: Any) -> Path:
    """Where a data set lies that was drawn: in the home, named by what drew it."""
    return home() / "data" / f"{card.name}-{digest([type(generator).VERSION, configuration(generator)])}"


def _usual_root(entry: DatasetEntry, card: Card, generator: Any | None) -> Path | None:
    drawn = None if generator is None else _drawn_root(card, generator)
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
    if card.generator is None and not entry.generator:
        return None
    assert isinstance(entry.generator, dict), "one of its drawings"
    return generator_of(card, entry.generator, f"data set {card.name}, generator")


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
        return Dataset(card, root, None, None, _missing(source), drawing=source.drawing, own=source.own)
    try:
        index = component_class(READERS, card.layout)().read(root, card)
    except DataError as error:
        raise SpecError(f"data set {card.name}: {error}") from error
    if source.entry.images_per_split is not None:
        index = index.limited(source.entry.images_per_split)
    task = display.task(f"fingerprinting {source.label}", len(index), "images", PATIENCE)
    try:
        found = fingerprint(index, hashes, task.update)
    except DataError as error:
        raise SpecError(f"data set {card.name}: {error}") from error
    task.finish(f"{len(index)} images in {task.seconds:.1f} s")
    checks = _mask_checks(card, index, found, hashes, display)
    if any(check.read_otherwise for check in checks):
        found = digest([found, "masks", 2])
    notes = [note for check in checks if (note := check.note())]
    left_out = (*index.left_out, *notes)
    return Dataset(card, root, index, found, left_out=left_out, drawing=source.drawing, own=source.own)


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
        return f"data set {source.label} (drawn when the grid runs)"
    looked = source.root or f"CONCEPTGRID_DATA/{source.card.name}"
    return f"data set {source.card.name}: no folder {looked}; set CONCEPTGRID_DATA or `root:`"


def open_data(dataset: Dataset, **contents: Any) -> Data:
    """The data set as a trial or a stage sees it."""
    if dataset.index is None:
        raise ValueError(f"{dataset.name} is not there: {dataset.missing}")
    return Data(dataset.card, dataset.index, **contents)
