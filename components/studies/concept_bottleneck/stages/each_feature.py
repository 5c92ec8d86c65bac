"""A backbone's features themselves in the place of concepts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, matrix
from components.data.images import DataError
from components.stage import TensorStage
from components.stages.backbone_images import BackboneImages


@dataclass(frozen=True, kw_only=True)
class EachFeature(TensorStage):
    """`embedding` float32 (F, F), the identity: what concept bottleneck methods read where a concept layer's
    rows or the texts' vectors stand, so that every one of F features is a concept."""

    features: BackboneImages

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        ids = data["features"].ids[:1]
        if len(ids) == 0:
            raise DataError("no image went through every stage")
        width = matrix(data["features"].read(ids, ["features"])["features"]).shape[1]
        return {"embedding": np.eye(width, dtype=np.float32)}
