"""Layer-wise relevance propagation (Bach et al. 2015), judged by insertion and deletion."""

from dataclasses import dataclass

from components.data.card import Card
from components.studies.explanations.attribution import Reduction
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import lrp
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class Lrp(AttributionMethod):
    """Its heatmaps: `attributions/lrp.py`, with the same knobs."""

    composite: lrp.Composite = "epsilon_plus_flat"
    reduction: Reduction = "relu"

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        attribution = lrp.Lrp(composite=self.composite, reduction=self.reduction)
        return Heatmaps(**vars(self.target(card, seed)), attribution=attribution)
