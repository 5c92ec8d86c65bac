"""Integrated gradients (Sundararajan et al. 2017), judged by insertion and deletion."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from components.data.card import Card
from components.studies.explanations.attribution import Reduction
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import integrated_gradients
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(AttributionMethod):
    """Its heatmaps: `attributions/integrated_gradients.py`, with the same knobs."""

    n_steps: Annotated[int, Ge(1)] = 50
    reduction: Reduction = "relu"

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        attribution = integrated_gradients.IntegratedGradients(n_steps=self.n_steps, reduction=self.reduction)
        return Heatmaps(**vars(self.target(card, seed)), attribution=attribution)
