"""ScoreCAM (Wang et al. 2020), judged by insertion and deletion."""

from dataclasses import dataclass

from components.data.card import Card
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import score_cam
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class ScoreCam(AttributionMethod):
    """Its heatmaps: `attributions/score_cam.py`. It has no knobs of its own."""

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        return Heatmaps(**vars(self.target(card, seed)), attribution=score_cam.ScoreCam())
