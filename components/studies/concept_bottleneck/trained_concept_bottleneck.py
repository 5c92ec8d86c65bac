"""Concept bottleneck models whose concepts are a trained layer on a backbone's features."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from components.data.card import Card
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.training.recipe import Recipe
from components.pixels.frames import Frame
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.base.network_stage import FramedNetwork
from components.stages.clip_images import ClipImages
from components.stages.clip_places import ClipPlaces
from components.studies.concept_bottleneck.concept_bottleneck import ConceptBottleneck
from components.studies.concept_bottleneck.layer.concept_pooling import KEEP_ALL
from components.studies.concept_bottleneck.stages.concept_layer import ConceptLayer, LossAxis, Protocol
from components.studies.starting_network import check_start, trunk_of


@dataclass(frozen=True, kw_only=True)
class TrainedConceptBottleneck(ConceptBottleneck):
    """Knobs of a concept layer on a backbone's features.

    backbone, recipe: without recipe, the backbone's checkpoint as it is, else trained by ERM with the trial's
    seed and then frozen; clip_cutoff, interpretability_cutoff, protocol, learning_rate, batch_size, steps:
    see the stage `concept_layer`. A cutoff of -1 drops nothing.
    """

    backbone: Backbone = SmallCnn()
    recipe: Recipe | None = Recipe()
    clip_cutoff: Annotated[float, Ge(-1), Le(1)] = KEEP_ALL
    interpretability_cutoff: Annotated[float, Ge(-1), Le(1)] = KEEP_ALL
    protocol: Protocol = "held_out"
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    batch_size: Annotated[int, Ge(1)] = 50_000
    steps: Annotated[int, Ge(1)] = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_start(self.backbone, self.recipe)

    @property
    def kept_above(self) -> float:
        return self.interpretability_cutoff

    def labelled(self, selection: str) -> str:
        """It is said so where the concept layer was chosen by the test split, as in LF-CBM's code."""
        return selection if self.protocol == "held_out" else f"{self.protocol}_{selection}"

    def network(self, card: Card, seed: int, frame: Frame) -> FramedNetwork:
        """Whose features a backbone's stage takes."""
        return FramedNetwork(
            backbone=self.backbone,
            classifier=trunk_of(card, self.backbone, self.recipe, seed),
            image_size=card.image_size,
            frame=frame,
        )

    def concept_layer(
        self,
        card: Card,
        seed: int,
        features: BackboneImages | BackboneMaps,
        targets: ClipImages | ClipPlaces,
        loss_axis: LossAxis = "image",
    ) -> ConceptLayer:
        """The stage that trains the layer on these features to agree with CLIP on these targets."""
        return ConceptLayer(
            features=features,
            targets=targets,
            texts=self.texts(card),
            cutoff_images=ClipImages(clip=self.clip) if self.clip_cutoff > KEEP_ALL else None,
            clip_cutoff=self.clip_cutoff,
            protocol=self.protocol,
            loss_axis=loss_axis,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            steps=self.steps,
            seed=seed,
        )
