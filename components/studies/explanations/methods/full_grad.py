"""FullGrad (Srinivas and Fleuret 2019), judged by insertion and deletion."""

from dataclasses import dataclass

from components.data.card import Card
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import full_grad
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class FullGrad(AttributionMethod):
    """Its heatmaps: `attributions/full_grad.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**vars(self.target(card, seed)), attribution=full_grad.FullGrad())
