"""Cards: what a data set is, read from `datasets/<name>/card.yaml`."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, ValidationError

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
CARD = "card.yaml"


class CardError(ValueError):
    """A card or a vocabulary is missing or says something impossible."""


class Card(BaseModel):
    """One data set: origin, layout on disk, names of classes and groups, where its masks lie.

    `masks` and `part_masks` are patterns relative to the root, with `{stem}` for the image's path
    without its suffix, below the folder `images` where the layout has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    licence: str
    layout: str
    image_size: Annotated[int, Ge(8)]
    classes: tuple[str, ...]
    places: tuple[str, ...] = ()
    root: str | None = None
    generator: dict[str, Any] | None = None
    masks: str | None = None
    part_masks: str | None = None
    parts: tuple[str, ...] = ()
    note: str = ""

    def vocabulary(self, name: str = "concepts") -> tuple[str, ...]:
        """The concepts of `datasets/<card>/<name>.txt`, one a line; `#` starts a comment line."""
        path = DATASETS / self.name / f"{name}.txt"
        if not path.is_file():
            found = sorted(file.stem for file in path.parent.glob("*.txt"))
            raise CardError(f"no vocabulary {name!r} for {self.name}; there is: {', '.join(found)}")
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        concepts = tuple(line for line in lines if line and not line.startswith("#"))
        if not concepts:
            raise CardError(f"{path.name} of {self.name} names no concept")
        if len(set(concepts)) != len(concepts):
            raise CardError(f"{path.name} of {self.name} names a concept twice")
        return concepts


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
        return Card(name=name, **content)
    except (ValidationError, TypeError, yaml.YAMLError) as error:
        raise CardError(f"{path.parent.name}/{CARD}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
