"""Which concepts an image shows, and on which part of its object, where a card says how one can tell.

n images, K concepts, P parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import MinLen
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from components.data.images import DataError, ImageIndex
from components.data.tables import read_table

NO_PART = -1


class Shows(BaseModel):
    """What a card says: the file below the root with a row for each image, its column of ids, and for each
    concept the values that the row of an image that shows it has, by column; none for a concept that every
    image shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Annotated[str, MinLen(1)]
    id: Annotated[str, MinLen(1)]
    concepts: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Shown:
    """known bool (K,): the card says of the concept how to tell; images bool (n, K), False where it does not;
    parts int64 (K,): the part that the concept names, NO_PART where it names none."""

    known: NDArray[np.bool_]
    images: NDArray[np.bool_]
    parts: NDArray[np.int64]


def shown_concepts(
    shows: Shows | None, index: ImageIndex, concepts: Sequence[str], parts: Sequence[str]
) -> Shown:
    """Of the images of the index, in its order; nothing is known where the card says nothing, or its table is
    not there. DataError where the table lacks a column or an image, or has one twice."""
    known = np.zeros(len(concepts), bool)
    images = np.zeros((len(index), len(concepts)), bool)
    if shows is not None and (index.root / shows.table).is_file():
        columns = {column for values in shows.concepts.values() for column in values}
        table = read_table(index.root / shows.table, (shows.id, *sorted(columns)), dtype=str)
        if table[shows.id].duplicated().any():
            raise DataError(f"{index.root / shows.table} has an {shows.id} twice")
        ids = index.image_ids.astype(str)
        absent = np.setdiff1d(ids, table[shows.id].to_numpy(str))
        if len(absent):
            raise DataError(f"{index.root / shows.table} has no row of image {absent[0]}")
        rows = table.set_index(shows.id).loc[ids]
        for place, concept in enumerate(concepts):
            if concept in shows.concepts:
                known[place] = True
                told = [(rows[name] == value).to_numpy() for name, value in shows.concepts[concept].items()]
                images[:, place] = np.logical_and.reduce(told) if told else True
    return Shown(known, images, named_parts(concepts, parts))


def named_parts(concepts: Sequence[str], parts: Sequence[str]) -> NDArray[np.int64]:
    """Position of the part whose name is a word of each concept, NO_PART where none is: (K,)."""
    position = {part: place for place, part in enumerate(parts)}
    words = ([position[word] for word in concept.split() if word in position] for concept in concepts)
    return np.array([found[-1] if found else NO_PART for found in words], np.int64)
