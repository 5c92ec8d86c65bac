"""LIME (Ribeiro et al. 2016), judged by insertion and deletion."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from components.data.card import Card
from components.studies.explanations.attribution_method import AttributionMethod
from components.studies.explanations.attributions import lime
from components.studies.explanations.stages.heatmaps import Heatmaps


@dataclass(frozen=True, kw_only=True)
class Lime(AttributionMethod):
    """Its heatmaps: `attributions/lime.py`, with the same knobs; the trial's seed is that
    of its samples. Its own superpixels are quickshift's, whatever `segmenter` cuts for the curves."""

    n_samples: Annotated[int, Ge(2)] = 1000
    hide_color: lime.HideColor = "mean"
    kernel_size: Annotated[float, Gt(0)] = 4.0
    max_dist: Annotated[float, Gt(0)] = 200.0
    ratio: Annotated[float, Ge(0), Le(1)] = 0.2

    def ranking(self, card: Card, seed: int) -> Heatmaps:
        attribution = lime.Lime(
            n_samples=self.n_samples,
            hide_color=self.hide_color,
            kernel_size=self.kernel_size,
            max_dist=self.max_dist,
            ratio=self.ratio,
            seed=seed,
        )
        return Heatmaps(**vars(self.target(card, seed)), attribution=attribution)
