"""GradCAM (Selvaraju et al. 2017), judged by insertion and deletion."""

from dataclasses import dataclass

from components.data.card import Card
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import gradcam
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class Gradcam(AttributionMethod):
    """Its heatmaps: `attributions/gradcam.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**vars(self.target(card, seed)), attribution=gradcam.Gradcam())
