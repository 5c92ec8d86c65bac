"""P-CBM (Yuksekgonul et al. 2023) with CLIP's texts as concept vectors: no concept layer is trained.

Steps and defaults: docs/methods/concept_bottlenecks.md, "p_cbm". CLIP's embeddings are stored with length 1,
so a projection is a cosine; the published code projects embeddings as long as they come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.evaluation.accuracies import accuracy_metrics, accuracy_names, predictions_of
from components.identity import rng
from components.method import LAST, Fitted, Metric, Report
from components.stage import Stage
from components.stages.clip_images import ClipImages
from components.studies.concept_bottleneck.concept_bottleneck import ConceptBottleneck, Found, final_layer
from components.studies.concept_bottleneck.final.final_layer import one_vs_rest
from components.studies.concept_bottleneck.layer.concept_pooling import Bottleneck, concept_layer_weights

WITHOUT_RESIDUAL = "without_residual"


@dataclass(frozen=True, kw_only=True)
class PCbm(ConceptBottleneck):
    """Cosines of CLIP's image and text embeddings as concepts.

    classifier: `elastic_net`, the same final layer as LF-CBM has, on standardised concepts; or
    `one_vs_rest_sgd` as published: scikit-learn's SGD, one logistic regression per class against the rest, on
    concepts as they are, with `lambda_sparse` and `alpha`. That has no path, so lambda_sparse is a number.
    residual: PCBM-h, a linear layer on the embedding corrects the logits of the model that was fitted before;
    kappa, residual_epochs: its weight decay and training, see `final.residual`. Without it,
    the same model's accuracies are under the selection `without_residual`; rules and contributions are of the
    concepts alone. The defaults are the published code's (the paper says 0.01 and 10).
    """

    classifier: Literal["elastic_net", "one_vs_rest_sgd"] = "elastic_net"
    residual: bool = False
    kappa: Annotated[float, Ge(0)] = 0.001
    residual_epochs: Annotated[int, Ge(0)] = 20

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

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        fitted = super().fit(data, seed, report)
        if self.residual:
            from components.studies.concept_bottleneck.final.residual import fit_residual

            train = data.usable_split("train")
            weight, bias = fit_residual(
                data["features"].array("embedding", train.ids),
                final_layer(fitted).logits(self.concepts(fitted, data, train.ids)),
                train.labels,
                self.kappa,
                self.residual_epochs,
                rng(seed, "residual"),
            )
            fitted.tensors |= {"residual_weight": weight, "residual_bias": bias}
        return fitted

    def logits(
        self, fitted: Fitted, data: Data, ids: Ids, concepts: NDArray[np.float32], selection: str = LAST
    ) -> NDArray[np.float32]:
        logits = super().logits(fitted, data, ids, concepts, selection)
        if not self.residual or selection != LAST:
            return logits
        embeddings = data["features"].array("embedding", ids)
        return logits + embeddings @ fitted.tensors["residual_weight"].T + fitted.tensors["residual_bias"]

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        metrics = super().evaluate(fitted, data)
        if not self.residual:
            return metrics
        metrics = [
            replace(metric, selection=WITHOUT_RESIDUAL)
            if metric.selection == LAST and metric.split != "train"
            else metric
            for metric in metrics
        ]
        for split in ("val", "test"):
            ids = data.split(split).ids
            predictions = predictions_of(data, ids, lambda ids: self.predict(fitted, data, ids))
            metrics += accuracy_metrics(data, split, predictions)
        return metrics

    def validated(self, card: Card) -> Mapping[str, frozenset[str]]:
        own = {WITHOUT_RESIDUAL: accuracy_names()} if self.residual else {}
        return {**super().validated(card), **own}

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
