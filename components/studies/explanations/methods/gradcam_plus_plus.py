"""GradCAM++ (Chattopadhay et al. 2018), judged by insertion and deletion."""

from dataclasses import dataclass

from components.data.card import Card
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import gradcam_plus_plus
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class GradcamPlusPlus(AttributionMethod):
    """Its heatmaps: `attributions/gradcam_plus_plus.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**vars(self.target(card, seed)), attribution=gradcam_plus_plus.GradcamPlusPlus())
