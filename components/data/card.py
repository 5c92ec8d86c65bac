"""Cards: what a data set is, read from `datasets/<name>/card.yaml`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, ValidationError

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


class Card(BaseModel):
    """One data set: origin, layout on disk, names of classes and groups, where its masks lie.

    `classes`: their names, or in the file a table of tab-separated values relative to the card's folder, one
    class a line: the name of its folder in the release (`folders`), then its own;
    `labelled`: if not, the classes are what networks may answer, and one more, UNLABELLED, is every image's;
    `test_folder`: of the layout image_folder, where releases call what everybody tests on `val`;
    `sets`: of the layout imagenet_shifts, what is tested on;
    `masks` and `part_masks` are patterns relative to the root, with `{stem}` for the image's path
    without its suffix, below the folder `images` where the layout has one; what their values mean says
    `components.data.mask_files`;
    `vocabularies`: the card whose vocabularies this data set uses, where not its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    licence: str
    layout: str
    image_size: Annotated[int, Ge(8)]
    classes: tuple[str, ...]
    folders: tuple[str, ...] = ()
    labelled: bool = True
    test_folder: Literal["val", "test"] = "test"
    places: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    root: str | None = None
    generator: dict[str, Any] | None = None
    masks: str | None = None
    part_masks: str | None = None
    parts: tuple[str, ...] = ()
    vocabularies: str | None = None
    note: str = ""

    def vocabulary(self, name: str = "concepts") -> tuple[str, ...]:
        """The concepts of `datasets/<card>/<name>.txt`, one a line; `#` starts a comment line. A
        MissingVocabulary if there is no such file; CardError for one without concepts or with one twice."""
        path = DATASETS / (self.vocabularies or self.name) / f"{name}.txt"
        if not path.is_file():
            return self._missing(name, path)
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        concepts = tuple(line for line in lines if line and not line.startswith("#"))
        if not concepts:
            raise CardError(f"{path.name} of {self.name} names no concept")
        if len(set(concepts)) != len(concepts):
            raise CardError(f"{path.name} of {self.name} names a concept twice")
        return concepts

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
    if not path.is_file():
        raise CardError(f"no data set {name!r}; there is: {', '.join(card_names())}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("classes"), str):
            content |= _class_table(path.parent / content["classes"])
        if isinstance(content, dict) and content.get("labelled") is False:
            content["classes"] = (*content["classes"], UNLABELLED)
        return Card(name=name, **content)
    except (ValidationError, KeyError, TypeError, ValueError, OSError, yaml.YAMLError) as error:
        raise CardError(f"{path.parent.name}/{CARD}: {_first_line(error)}") from error


def _class_table(path: Path) -> dict[str, tuple[str, ...]]:
    """Folders and names of the classes; ValueError if a line has not these two."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"{path.name}: expected a folder, a tab and a name: {' '.join(row)!r}")
    return {"folders": tuple(row[0] for row in rows), "classes": tuple(row[1] for row in rows)}


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
