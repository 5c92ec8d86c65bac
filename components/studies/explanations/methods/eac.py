"""Explain Any Concept (EAC): the masks of an image that a classifier's decision rests on, by their values in
a game that a small surrogate plays. Steps and defaults: docs/methods/explanations.md, "eac".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from components.data.card import Card
from components.data.columns import Data
from components.method import Explanation, Fitted, Metric
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.shapley import MAX_PLAYERS, Choice, Draw, Sizes, Value, chosen
from components.studies.explanations.stages.coalitions import Coalitions
from components.studies.explanations.stages.mask_values import (
    Estimator,
    MaskValues,
    check_coalitions,
    check_estimator,
    mask_values,
)
from components.studies.explanations.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class Eac(AttributionMethod):
    """n_coalitions, sizes, draw, exact_up_to: of an image's masks, see the stage `coalitions`;
    surrogate, value, estimator, n_samples: what a mask counts for, see the stage `mask_values`;
    explanation, top_k, share: which masks are shown as the explanation, see `shapley.chosen`.
    """

    n_coalitions: Annotated[int, Ge(1)] = 2500
    sizes: Sizes = "bernoulli"
    draw: Draw = "independent"
    exact_up_to: Annotated[int, Ge(0), Le(MAX_PLAYERS)] = 0
    surrogate: Surrogate | None = Surrogate()
    value: Value = "banzhaf"
    estimator: Estimator = "sobol"
    n_samples: Annotated[int, Ge(1)] = 8192
    explanation: Choice = "top"
    top_k: Annotated[int, Ge(1)] = 3
    share: Annotated[float, Gt(0), Le(1)] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_estimator(self.surrogate, self.value, self.estimator)
        check_coalitions(self.surrogate, self.value, self.sizes, self.exact_up_to)

    def ranking(self, card: Card, seed: int) -> MaskValues:
        coalitions = Coalitions(
            **vars(self.target(card, seed)),
            segments=self.segments(),
            n_coalitions=self.n_coalitions,
            sizes=self.sizes,
            draw=self.draw,
            exact_up_to=self.exact_up_to,
            fill=self.fill,
            min_pixels=self.min_pixels,
            max_masks=self.max_masks,
            all_classes=self.surrogate is not None and self.surrogate.loss == "all_classes",
            seed=seed,
        )
        return mask_values(
            coalitions,
            surrogate=self.surrogate,
            value=self.value,
            estimator=self.estimator,
            n_samples=self.n_samples,
            seed=seed,
        )

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        """Besides what all explanations are judged by, `surrogate_r2`: which share of the variance of
        held-out probabilities the surrogate explains, the median of the images where it is known."""
        split = self.sample.split
        found = data["ranking"].read(data.usable_split(split).ids, ["surrogate_r2"])["surrogate_r2"]
        known = found.drop_null().to_numpy()
        own = [Metric("surrogate_r2", float(np.median(known)), split)] if len(known) else []
        return [*super().evaluate(fitted, data), *own]

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        """The masks that make up the explanation, best first, with their values."""
        return [self._shortened(whole) for whole in super().explain(fitted, data, image_ids)]

    def _shortened(self, whole: Explanation) -> Explanation:
        kept = chosen(whole.weights, self.explanation, self.top_k, self.share)
        captions = tuple(np.array(whole.captions)[kept].tolist())
        return replace(whole, masks=whole.masks[kept], weights=whole.weights[kept], captions=captions)
