"""The sparse final layer along a whole path of lambdas: every value of `lambda_sparse` for one price."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data
from components.stage import TensorStage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from components.studies.concept_bottleneck.layer.concept_pooling import (
    Pooling,
    concept_layer_weights,
    fit_bottleneck,
)
from components.studies.concept_bottleneck.stages.concept_layer import ConceptLayer
from components.studies.concept_bottleneck.stages.each_feature import EachFeature

TOLERANCE = 1e-4  # of the certificate, relative to the objective


@dataclass(frozen=True, kw_only=True)
class SparsePath(TensorStage):
    """Elastic-net multinomial regression (docs/methods/concept_bottlenecks.md, eq. 13) of the training
    images' labels on their standardised concepts. L fits in descending order of lambda, C classes, K concepts
    kept of the vocabulary:
    `weight` float32 (L, C, K), `bias` float32 (L, C); float64 (L,) `lambda_sparse` as LF-CBM passes it (the
    effective one is that by alpha), `objective`, `gap`, the certificate; `converged` uint8 (L,);
    and what the fits stand on: `concept_weight` (K, D), `mean`, `std` (K,), and `map_deviation` (K,), that of
    the maps before they are pooled.

    features, layer: the concepts of an image are its features by the concept layer's rows, or by the texts'
    own unit vectors (P-CBM; docs/methods/concept_bottlenecks.md, eq. 20);
    interpretability_cutoff: concepts with no larger similarity on held-out images are left out; -1: none;
    pooling, unit_maps: from maps to concepts, see `layer.concept_pooling`;
    alpha: share of the absolute values in the penalty; path_length, path_ratio: so many lambdas, log-spaced
    from the least that leaves no weight, down to that share of it; lambdas: values that the path holds too.
    """

    VERSION: ClassVar[int] = 2

    features: BackboneImages | BackboneMaps | ClipImages
    layer: ConceptLayer | ClipTexts | EachFeature
    interpretability_cutoff: float
    pooling: Pooling
    unit_maps: bool
    alpha: float
    path_length: int
    path_ratio: float
    lambdas: tuple[float, ...]

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        from components.studies.concept_bottleneck.final.sparse_path import elastic_net_path, lambda_max

        train = data.usable_split("train")
        labels, n_classes = train.labels, len(data.card.classes)
        grid_size = self.layer.grid_size if isinstance(self.layer, ConceptLayer) else None
        weight = concept_layer_weights(data.tensors("layer"), self.interpretability_cutoff)
        bottleneck, concepts, deviation = fit_bottleneck(
            data["features"], train.ids, weight, self.pooling, grid_size, self.unit_maps, device
        )
        highest = lambda_max(concepts, labels, n_classes, alpha=self.alpha) or 1.0  # 0: no class differs
        spaced = np.geomspace(highest, highest * self.path_ratio, self.path_length).tolist()
        lambdas = sorted({*spaced, *self.lambdas}, reverse=True)
        fits = elastic_net_path(concepts, labels, n_classes, lambdas, alpha=self.alpha, tolerance=TOLERANCE)
        for step, fit in enumerate(fits):
            nonzero = int(np.count_nonzero(fit.weight))
            report(step, lambda_sparse=fit.lambda_sparse, nonzero_weights=nonzero, gap=fit.gap)
        return {
            "weight": np.stack([fit.weight for fit in fits]).astype(np.float32),
            "bias": np.stack([fit.bias for fit in fits]).astype(np.float32),
            "lambda_sparse": np.array([fit.lambda_sparse for fit in fits]),
            "objective": np.array([fit.objective for fit in fits]),
            "gap": np.array([fit.gap for fit in fits]),
            "converged": np.array([fit.converged for fit in fits], np.uint8),
            "map_deviation": deviation,
            **bottleneck.tensors(),
        }
