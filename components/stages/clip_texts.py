"""CLIP embeddings of concepts: one text encoding per (model, templates, vocabulary)."""

from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from components.data.columns import Data
from components.models.clip.clip import Clip
from components.stage import TensorStage


def _with_one_place(template: str) -> str:
    """The template as given; ValueError if a concept has no place in it, so that all would read alike, or
    another than `{}`."""
    try:
        places = [parts[1:] for parts in Formatter().parse(template) if parts[1] is not None]
    except ValueError:  # a brace alone
        places = []
    if places != [("", "", None)]:
        raise ValueError(f"template = {template!r}: expected {{}}, where the concept goes, once and alone")
    return template


Template = Annotated[str, AfterValidator(_with_one_place)]


@dataclass(frozen=True, kw_only=True)
class ClipTexts(TensorStage):
    """`embedding`: float32 (K, D), the mean over templates of the unit vectors, made a unit vector.

    templates: each with `{}` where the concept goes. A text that several of them make is encoded once.
    Raises ValueError if there is no text or no template, or a text is too long for the model.
    """

    READS_IMAGES: ClassVar[bool] = False

    clip: Clip
    texts: tuple[str, ...]
    templates: tuple[Template, ...] = ("a photo of {}",)

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        model = self.clip.load(device)
        made = [[template.format(text) for text in self.texts] for template in self.templates]
        distinct = {text: row for row, text in enumerate(dict.fromkeys(text for of in made for text in of))}
        vectors = model.embed_texts(list(distinct))
        mean = np.asarray(sum(vectors[[distinct[text] for text in of]] for of in made))
        return {"embedding": mean / np.linalg.norm(mean, axis=1, keepdims=True)}
