"""Standard, sparse: the elastic-net final layer on a frozen backbone's features, without concepts.

The baseline that LF-CBM and SALF-CBM call so, the sparse layer of LF-CBM on standardised features:
docs/methods/concept_bottlenecks.md, "sparse_standard".
"""

from dataclasses import dataclass
from typing import Any

from components.data.card import Card
from components.data.columns import Data
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.pixels.frames import Frame
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.studies.concept_bottleneck.concept_bottleneck import ConceptBottleneck
from components.studies.concept_bottleneck.stages.each_feature import EachFeature
from components.studies.starting_network import check_start, trunk_of


@dataclass(frozen=True, kw_only=True)
class SparseStandard(ConceptBottleneck):
    """A final layer as the concept bottleneck models have it, sparse or dense, on features as they are.

    backbone, recipe: without recipe, the backbone's checkpoint as it is, else trained by ERM with the trial's
    seed and then frozen; frame: what it sees of an image that is no square; clip, vocabulary and template
    change nothing here.
    """

    backbone: Backbone = SmallCnn()
    recipe: Recipe | None = Recipe()
    frame: Frame = "squash"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_start(self.backbone, self.recipe)

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        trunk = trunk_of(card, self.backbone, self.recipe, seed)
        features = BackboneImages(
            backbone=self.backbone, classifier=trunk, image_size=card.image_size, frame=self.frame
        )
        return self.with_path(features, EachFeature(features=features))  # type: ignore[arg-type]

    def _fate_of_concepts(self, data: Data) -> dict[str, Any]:
        """All features are kept, and they have no names."""
        n_features = len(data.tensors("concept_layer")["embedding"])
        names = [f"feature {position}" for position in range(n_features)]
        return {"concepts": names, "dropped": {}, "concept_similarity": None}
