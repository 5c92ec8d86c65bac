"""Which concepts belong to which class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data
from components.stage import TensorStage


@dataclass(frozen=True, kw_only=True)
class ClassConcepts(TensorStage):
    """`listed`: bool (L, K), of L classes and K concepts. It computes nothing: as a stage, lists are part of
    the identity of trials that read them, as embeddings are.

    concepts: of each class, positions in a vocabulary of `n_concepts`.
    """

    READS_IMAGES: ClassVar[bool] = False

    concepts: tuple[tuple[int, ...], ...]
    n_concepts: int

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        listed = np.zeros((len(self.concepts), self.n_concepts), bool)
        for label, concepts in enumerate(self.concepts):
            listed[label, list(concepts)] = True
        return {"listed": listed}
