"""GradCAM (Selvaraju et al. 2017), judged by insertion and deletion."""

from dataclasses import dataclass

from components.attribution_method import AttributionMethod
from components.card import Card
from components.models.attributions import gradcam
from components.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class Gradcam(AttributionMethod):
    """Its heatmaps: `components/models/attributions/gradcam.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**self.target(card, seed), attribution=gradcam.Gradcam())
