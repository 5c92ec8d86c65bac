"""Layer-wise relevance propagation (Bach et al. 2015), judged by insertion and deletion."""

from dataclasses import dataclass

from components.attribution_method import AttributionMethod
from components.card import Card
from components.models.attribution import Reduction
from components.models.attributions import lrp
from components.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class Lrp(AttributionMethod):
    """Its heatmaps: `components/models/attributions/lrp.py`, with the same knobs."""

    composite: lrp.Composite = "epsilon_plus_flat"
    reduction: Reduction = "relu"

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        attribution = lrp.Lrp(composite=self.composite, reduction=self.reduction)
        return Heatmaps(**self.target(card, seed), attribution=attribution)
