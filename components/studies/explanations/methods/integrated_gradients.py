"""Integrated gradients (Sundararajan et al. 2017), judged by insertion and deletion."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from components.attribution_method import AttributionMethod
from components.card import Card
from components.models.attribution import Reduction
from components.models.attributions import integrated_gradients
from components.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(AttributionMethod):
    """Its heatmaps: `components/models/attributions/integrated_gradients.py`, with the same knobs."""

    n_steps: Annotated[int, Ge(1)] = 50
    reduction: Reduction = "relu"

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        attribution = integrated_gradients.IntegratedGradients(n_steps=self.n_steps, reduction=self.reduction)
        return Heatmaps(**self.target(card, seed), attribution=attribution)
