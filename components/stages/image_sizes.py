"""The size of each image: which images can be read at all, for trials that read them themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.stage import Batch, BatchMap, ColumnStage, Preparation, Rows, Tensors


@dataclass(frozen=True, kw_only=True)
class ImageSizes(ColumnStage):
    """`height`, `width` int32, of the image as stored."""

    PASSES_A_MODEL: ClassVar[bool] = False

    def preparation(self) -> Preparation:
        return _corner

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        def measure(batch: Batch) -> Rows:
            sizes = np.array(batch.sizes, np.int32).reshape(-1, 2)
            columns = {name: pa.array(sizes[:, axis]) for axis, name in enumerate(("height", "width"))}
            return Rows(columns, model_inputs=0)

        return measure


def _corner(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One pixel: the size travels beside it."""
    return image[:1, :1]
