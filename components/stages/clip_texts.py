"""CLIP embeddings of concepts: one text encoding per (model, templates, vocabulary)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data import Data
from components.models.clip import Clip
from components.stage import TensorStage


@dataclass(frozen=True, kw_only=True)
class ClipTexts(TensorStage):
    """`embedding`: float32 (K, D), the mean over templates of the unit vectors, made a unit vector.

    templates: each with `{}` where the concept goes.
    """

    READS_IMAGES: ClassVar[bool] = False

    clip: Clip
    texts: tuple[str, ...]
    templates: tuple[str, ...] = ("a photo of {}",)

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        model = self.clip.load(device)
        vectors = sum(
            model.embed_texts([template.format(text) for text in self.texts]) for template in self.templates
        )
        mean = np.asarray(vectors)
        return {"embedding": mean / np.linalg.norm(mean, axis=1, keepdims=True)}
