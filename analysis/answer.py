"""What a command answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answer:
    """A table: `columns` of text and the lines `below` for people, `rows` with `fields` for programs."""

    title: str
    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[Mapping[str, Any]]
    fields: Sequence[str]
    below: Sequence[str] = field(default=())


def answer(
    title: str, columns: Mapping[str, Any], table: "pd.DataFrame", below: Sequence[str] = ()
) -> Answer:
    """An answer whose rows for programs are those of a data frame."""
    from analysis.tables import records

    said = {name: list(values) for name, values in columns.items()}
    return Answer(title, said, records(table), [str(name) for name in table.columns], tuple(below))
