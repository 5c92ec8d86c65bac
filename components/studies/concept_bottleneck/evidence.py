"""What a concept bottleneck says of a prediction, of its rules and of its concepts, for people to read.

S concepts that are shown, K concepts, L classes, H W pixels.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.method import STRONGEST, Contributions, Explanation
from components.stage import Size
from components.studies.concept_bottleneck.final.final_layer import NONZERO
from components.studies.concept_bottleneck.maps.concept_maps import LEAST, global_rules, strongest

NO_CONCEPT = "no concept counts: the bias decides"


@dataclass(frozen=True)
class Evidence:
    """The concepts that contribute most to a class: shown int64 (S,); what each adds to the logit, float
    (S,); and its name, with NOT before it where the concept is below its average."""

    shown: NDArray[np.int64]
    contributions: NDArray[np.floating[Any]]
    captions: tuple[str, ...]

    def explanation(
        self, image_id: int, title: str, size: Size, heatmaps: NDArray[np.float32] | None
    ) -> Explanation:
        """Of an image of this size. heatmaps float (S, H, W): where each concept is; None: the whole image
        stands for each, and its caption says what it adds."""
        if heatmaps is not None:
            return Explanation(image_id, title, heatmaps, self.contributions, self.captions)
        whole = np.ones((max(len(self.shown), 1), *size), dtype=bool)
        if not len(self.shown):
            return Explanation(image_id, title, whole, np.zeros(1), (NO_CONCEPT,))
        pairs = zip(self.captions, self.contributions, strict=True)
        captions = tuple(f"{caption} {value:+.2f}" for caption, value in pairs)
        return Explanation(image_id, title, whole, self.contributions, captions)


def evidence_for(
    weight: NDArray[np.floating[Any]], concepts: NDArray[np.floating[Any]], names: Sequence[str]
) -> Evidence:
    """Of the class with these weights (K,), in an image with these standardised concepts (K,)."""
    contributions = weight * concepts
    shown = strongest(contributions)
    captions = tuple(_called(concepts[k], names[k]) for k in shown)
    return Evidence(shown, contributions[shown], captions)


def contributions_to(
    weights: NDArray[np.floating[Any]], concepts: NDArray[np.floating[Any]], names: Sequence[str]
) -> list[Contributions]:
    """The first STRONGEST of `evidence_for` of many images at once: weights (n, K) of each one's class,
    concepts (n, K)."""
    contributions = weights * concepts
    order = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :STRONGEST]
    values, signs = (np.take_along_axis(x, order, axis=1).tolist() for x in (contributions, concepts))
    return [
        [
            (_called(concept, names[k]), value)
            for k, value, concept in zip(*row, strict=True)
            if abs(value) > LEAST
        ]
        for row in zip(order.tolist(), values, signs, strict=True)
    ]


def _called(concept: float, name: str) -> str:
    return name if concept >= 0 else f"NOT {name}"


def verdict(classes: Sequence[str], predicted: int, label: int) -> str:
    """The predicted class, and whether it is right."""
    said = "right" if predicted == label else f"wrong, is {classes[label]}"
    return f"{classes[predicted]} ({said})"


def rules_table(weight: NDArray[np.floating[Any]], concepts: Sequence[str], classes: Sequence[str]) -> str:
    """CSV of concept, class and weight, of the non-zero weights (L, K), the strongest of each class first."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("concept", "class", "weight"))
    for rule in global_rules(weight, least=NONZERO):
        rows.writerow((concepts[rule.concept], classes[rule.label], f"{rule.weight:.7g}"))
    return text.getvalue()


def why_dropped(layer: Mapping[str, NDArray[Any]], concept: int) -> str:
    """The cutoff that a concept did not pass, and its value."""
    if not layer["trained"][concept]:
        return f"clip_cutoff: its five largest cosines have a mean of {layer['top_cosine'][concept]:.3f}"
    return f"interpretability_cutoff: similarity {layer['similarity'][concept]:.3f} on held-out images"
