"""ScoreCAM (Wang et al. 2020), judged by insertion and deletion."""

from dataclasses import dataclass

from components.attribution_method import AttributionMethod
from components.card import Card
from components.models.attributions import score_cam
from components.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class ScoreCam(AttributionMethod):
    """Its heatmaps: `components/models/attributions/score_cam.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**self.target(card, seed), attribution=score_cam.ScoreCam())
