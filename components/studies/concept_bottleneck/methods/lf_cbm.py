"""LF-CBM (Oikarinen et al. 2023): concepts from CLIP without labels, and a sparse final layer on them.

Steps and defaults: docs/methods/concept_bottlenecks.md, "lf_cbm"; where its code looks at the test split,
`protocol` says so.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.method import LAST, Fitted, Metric
from components.pixels.frames import Frame
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_images import ClipImages
from components.studies.concept_bottleneck.concept_bottleneck import final_layer
from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead
from components.studies.concept_bottleneck.maps.localisation import pointing_metrics
from components.studies.concept_bottleneck.maps.segmentation import concept_segmentation_metrics
from components.studies.concept_bottleneck.trained_concept_bottleneck import TrainedConceptBottleneck


@dataclass(frozen=True, kw_only=True)
class LfCbm(TrainedConceptBottleneck):
    """One number per concept and image.

    frame: what the backbone sees of an image that is no square. The cutoffs are LF-CBM's for CIFAR.

    Where the data set has masks of parts, the method is also asked where its concepts are, and, where it has
    masks of objects too, how well they segment them: for a linear layer on mean-pooled features, GradCAM's
    map of a concept is the layer applied to each cell (without GradCAM's cut at 0, which takes nothing from
    its largest value but all where the whole map is negative).
    """

    frame: Frame = "squash"
    clip_cutoff: Annotated[float, Ge(-1), Le(1)] = 0.25
    interpretability_cutoff: Annotated[float, Ge(-1), Le(1)] = 0.45

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        features = BackboneImages(**vars(self.network(card, seed, self.frame)))
        layer = self.concept_layer(card, seed, features, ClipImages(clip=self.clip))
        stages = self.with_path(features, layer)
        if card.part_masks is not None:
            stages["maps"] = BackboneMaps(**vars(self.network(card, seed, self.frame)))
        return stages

    def _localisation(self, fitted: Fitted, data: Data) -> list[Metric]:
        bottleneck = self._bottleneck(fitted.tensors)

        def maps(ids: Ids) -> NDArray[np.float32]:
            flat = bottleneck.maps(data["maps"], ids)
            side = math.isqrt(flat.shape[-1])
            return flat.reshape(*flat.shape[:2], side, side)

        def predicted(ids: Ids) -> NDArray[np.int64]:
            return self.predict(fitted, data, ids).argmax(axis=1)

        layer, concepts = final_layer(fitted), fitted.facts["concepts"]
        head = ConceptHead(
            weight=layer.weight, bias=layer.bias, mean=fitted.tensors["mean"], std=fitted.tensors["std"]
        )
        selection = self.labelled(LAST)
        return [
            *pointing_metrics(data, "test", concepts, maps, self.frame, selection=selection),
            *concept_segmentation_metrics(
                data, "test", head, maps, predicted, self.frame, selection=selection
            ),
        ]
