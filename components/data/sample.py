"""Which images of a data set a stage is made of, where it is not all of them."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from components.data.images import ImageIndex
from components.identity import rng


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images of one split: all of them, or `n_images` drawn once and for all; a smaller number's are among a
    larger one's."""

    split: Literal["train", "val", "test"] = "test"
    n_images: Annotated[int, Ge(1)] | None = None

    def of(self, index: ImageIndex) -> ImageIndex:
        """The index of these images, by id."""
        rows = np.flatnonzero(index.splits == self.split)
        if self.n_images is not None:
            rows = np.sort(rows[rng(0, "sample", self.split).random(len(rows)).argsort()[: self.n_images]])
        return index.rows(rows)
