"""GradCAM++ (Chattopadhay et al. 2018), judged by insertion and deletion."""

from dataclasses import dataclass

from components.attribution_method import AttributionMethod
from components.card import Card
from components.models.attributions import gradcam_plus_plus
from components.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class GradcamPlusPlus(AttributionMethod):
    """Its heatmaps: `components/models/attributions/gradcam_plus_plus.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**self.target(card, seed), attribution=gradcam_plus_plus.GradcamPlusPlus())
