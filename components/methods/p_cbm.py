"""P-CBM (Yuksekgonul et al. 2023) with CLIP's texts as concept vectors: no concept layer is trained.

Spec C2, C3. CLIP's embeddings are stored with length 1, so a projection is a cosine; the published code
projects embeddings as long as they come.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.card import Card
from components.concept_bottleneck import ConceptBottleneck, Found
from components.data import Data
from components.method import LAST, Report
from components.models.concept_pooling import Bottleneck, concept_layer_weights
from components.models.final_layer import one_vs_rest
from components.stage import Stage
from components.stages.clip_images import ClipImages


@dataclass(frozen=True, kw_only=True)
class PCbm(ConceptBottleneck):
    """Cosines of CLIP's image and text embeddings as concepts.

    classifier: `elastic_net`, the same final layer as LF-CBM has, on standardised concepts; or
    `one_vs_rest_sgd` as published: scikit-learn's SGD, one logistic regression per class against the rest, on
    concepts as they are, with `lambda_sparse` and `alpha`. That has no path, so lambda_sparse is a number.
    """

    classifier: Literal["elastic_net", "one_vs_rest_sgd"] = "elastic_net"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifier == "one_vs_rest_sgd" and isinstance(self.lambda_sparse, str):
            raise ValueError(
                "lambda_sparse must be a number for classifier one_vs_rest_sgd, which has no path"
            )

    @property
    def has_path(self) -> bool:
        return self.classifier == "elastic_net" and super().has_path

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        return self.with_path(ClipImages(clip=self.clip), self.texts(card))

    def _train_final_layer(self, data: Data, seed: int, report: Report) -> Found:
        if self.classifier == "elastic_net":
            return super()._train_final_layer(data, seed, report)
        weight = concept_layer_weights(data.tensors("concept_layer"), self.kept_above)
        zeros, ones = (np.full(len(weight), value, np.float32) for value in (0, 1))
        bottleneck = Bottleneck(weight=weight, mean=zeros, std=ones, pooling=self.pooling)
        train = data.usable_split("train")
        concepts = bottleneck.concepts(data["features"], train.ids)
        assert not isinstance(self.lambda_sparse, str)
        n_classes = len(data.card.classes)
        layer = one_vs_rest(concepts, train.labels, n_classes, self.lambda_sparse, self.alpha, seed)
        return bottleneck, {LAST: layer}, {}
