"""Cards: what a data set is, read from `datasets/<name>/card.yaml`."""

import string
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictInt,
    ValidationError,
)

from components.data.mask_files import Meaning
from components.data.shown_concepts import Shows
from components.data.written import TextError, read_text, read_yaml, unknown

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
CARD = "card.yaml"
GENERATE = "python -m grid concepts"
UNLABELLED = "unlabelled"


class CardError(ValueError):
    """A card or a vocabulary is missing or says something impossible."""


class MissingVocabulary(tuple[str, ...]):
    """No concept: what stands for a vocabulary that is not there, so that an experiment can be planned.
    `problem` says in one line what is missing; and what to do."""

    problem: str

    def __new__(cls, problem: str = "") -> "MissingVocabulary":
        made = super().__new__(cls)
        made.problem = problem
        return made

    def __repr__(self) -> str:
        return f"<{self.problem}>"


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names as given; ValueError if one is blank or stands twice."""
    for position, name in enumerate(names):
        if not name.strip() or name in names[:position]:
            raise ValueError(f"{name!r} is blank or stands twice")
    return names


def _pattern(text: str) -> str:
    """A path pattern as given; ValueError if it has not the place `{stem}`, or another one."""
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    except ValueError:
        fields = set()
    if fields != {"stem"}:
        raise ValueError("expected a path with {stem} for the image's, and no other braces")
    return text


Names = Annotated[tuple[str, ...], AfterValidator(_once)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class Card(BaseModel):
    """One data set: origin, layout on disk, names of classes and groups, where its masks lie.

    `classes`: their names, or in the file a table of tab-separated values relative to the card's folder, one
    class a line: the name of its folder in the release (`folders`), then its own;
    `labelled`: if not, the classes are what networks may answer, and one more, UNLABELLED, is every image's;
    `test_folder`: of the layout image_folder, where releases call what everybody tests on `val`;
    `sets`: of the layout imagenet_shifts, what is tested on;
    `masks` and `part_masks` are patterns relative to the root, with `{stem}` for the image's path
    without its suffix, below the folder `images` where the layout has one;
    `mask_values`: what the values of `masks` mean, {object: [..], ignore: [..]}, or `soft`: see
    `components.data.mask_files`, also for masks of which the card says nothing;
    `shows`: of the layout waterbirds_csv, how a table tells which concepts an image shows;
    `vocabularies`: the card whose vocabularies this data set uses, where not its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    licence: str
    layout: str
    image_size: Annotated[StrictInt, Ge(8)]
    classes: Annotated[Names, MinLen(1)]
    folders: Names = ()
    labelled: StrictBool = True
    test_folder: Literal["val", "test"] = "test"
    places: Names = ()
    sets: Names = ()
    root: str | None = None
    generator: dict[str, Any] | None = None
    masks: Pattern | None = None
    part_masks: Pattern | None = None
    mask_values: Meaning = None
    parts: Names = ()
    shows: Shows | None = None
    vocabularies: str | None = None
    note: str = ""

    def vocabulary(self, name: str = "concepts") -> tuple[str, ...]:
        """The concepts of `datasets/<card>/<name>.txt`, one a line; `#` starts a comment line. A
        MissingVocabulary if there is no such file; CardError for one without concepts, with one twice (also
        in other capitals or with other blanks: CLIP reads these as one), or that is no UTF-8."""
        path = DATASETS / (self.vocabularies or self.name) / f"{name}.txt"
        if not path.is_file():
            return self._missing(name, path)
        try:
            lines = (line.strip() for line in read_text(path).splitlines())
        except TextError as error:
            raise CardError(str(error)) from error
        concepts = {number: line for number, line in enumerate(lines, 1) if line and line[:1] != "#"}
        if not concepts:
            raise CardError(f"{path.name} of {self.name} names no concept")
        first: dict[str, int] = {}
        for number, concept in concepts.items():
            other = first.setdefault(_as_read(concept), number)
            if other != number:
                both = f"{concepts[other]!r} in line {other} and {concept!r} in line {number}"
                raise CardError(f"{path.name} of {self.name} names a concept twice: {both}; remove one")
        return tuple(concepts.values())

    def _missing(self, name: str, path: Path) -> MissingVocabulary:
        found = sorted(file.stem for file in path.parent.glob("*.txt"))
        there = f", there is: {', '.join(found)}" if found else ""
        where = f"datasets/{path.parent.name}/{path.name}"
        return MissingVocabulary(
            f"vocabulary {name!r} of {self.name}: no {where}{there}; write it, one concept a line, or let a "
            f"language model: {GENERATE} {path.parent.name} --provider URL --model NAME --out {name}"
        )


def card_names() -> list[str]:
    """Names of the data sets that have a card."""
    return sorted(path.parent.name for path in DATASETS.glob(f"*/{CARD}"))


def load_card(name: str) -> Card:
    """The card called `name`; CardError if there is none or it does not validate."""
    path = DATASETS / name / CARD
    if name not in card_names():
        raise CardError(f"no data set {name!r}; there is: {', '.join(card_names())}")
    try:
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise ValueError("expected a mapping that starts with `title:`")
        if isinstance(content.get("classes"), str):
            content |= _class_table(path.parent / content["classes"])
        if content.get("labelled") is False:
            content["classes"] = (*content["classes"], UNLABELLED)
        return Card(name=name, **content)
    except TextError as error:
        raise CardError(str(error)) from error
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise CardError(f"{path.parent.name}/{CARD}: {_first_line(error)}") from error


def _class_table(path: Path) -> dict[str, tuple[str, ...]]:
    """Folders and names of the classes; ValueError if a line has not these two."""
    rows = [line.split("\t") for line in read_text(path).splitlines() if line[:1] != "#"]
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"{path.name}: expected a folder, a tab and a name: {' '.join(row)!r}")
    return {"folders": tuple(row[0] for row in rows), "classes": tuple(row[1] for row in rows)}


def _as_read(concept: str) -> str:
    """The concept without capitals, blanks and forms of letters: to a text encoder they are one."""
    return " ".join(unicodedata.normalize("NFKC", concept).casefold().split())


def _first_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return unknown(place, Card.model_fields, "key")
    if first["type"] in {"missing", "value_error"}:
        return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    return f"{place} = {first['input']!r}: {first['msg'].lower()}"
