"""What concept bottleneck models share: concepts by a linear layer, then a final layer that is sparse or not.

A concept layer and a path of sparse final layers are stages, so that a sweep over `lambda_sparse`, `nec` or
the choice by validation trains one concept layer and computes one path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Data, Ids
from components.evaluation.accuracies import accuracy_metrics, accuracy_names, known, predictions_of
from components.identity import rng
from components.method import (
    LAST,
    Contributions,
    Explanation,
    Fitted,
    Method,
    Metric,
    Picture,
    Report,
)
from components.models.clip.clip import Clip
from components.stage import Size, Stage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts, Template
from components.studies.concept_bottleneck.evidence import (
    contributions_to,
    evidence_for,
    rules_table,
    verdict,
    why_dropped,
)
from components.studies.concept_bottleneck.final.final_layer import (
    NEC_TARGETS,
    FinalLayer,
    accuracies,
    at_nec,
    dense_layer,
    first_best,
    stored_fits,
)
from components.studies.concept_bottleneck.layer.concept_pooling import (
    KEEP_ALL,
    Bottleneck,
    Pooling,
    concept_layer_weights,
    fit_bottleneck,
    kept_concepts,
)
from components.studies.concept_bottleneck.stages.concept_layer import ConceptLayer
from components.studies.concept_bottleneck.stages.sparse_path import SparsePath

BY_VALIDATION = ("val_average", "val_worst_group")  # the second reads group labels: an oracle
LAMBDAS = (1e-2, 7e-3, 5e-3, 3e-3, 2e-3, 1e-3, 7e-4, 5e-4, 3e-4, 2e-4, 1e-4)
ON_PATH = ("lambda_sparse", "objective", "gap", "converged")
Found = tuple[Bottleneck, dict[str, FinalLayer], dict[str, Any]]  # final layers by selection, and facts


@dataclass(frozen=True, kw_only=True)
class ConceptBottleneck(Method):
    """Knobs of the concepts and of the final layer.

    clip, vocabulary, template: which concepts, and how CLIP reads them;
    final_layer: `sparse`, a point of the elastic-net path, which minimises
    docs/methods/concept_bottlenecks.md, eq. 13, or `dense` (eq. 19 there);
    lambda_sparse: which point: a value as LF-CBM passes it, one of `lambdas`; `val`, the sparsest of the best
    by validation accuracy; `nec`, cut to so many effective concepts per class
    (docs/methods/concept_bottlenecks.md, eq. 18);
    alpha, path_length, path_ratio, lambdas: the path, see the stage `sparse_path`;
    weight_decay: of the dense layer.
    """

    clip: Clip = Clip()
    vocabulary: str = "concepts"
    template: Template = "{}"
    final_layer: Literal["sparse", "dense"] = "sparse"
    lambda_sparse: Annotated[float, Gt(0)] | Literal["val", "nec"] = "val"
    nec: Annotated[float, Gt(0)] = 5.0
    alpha: Annotated[float, Gt(0), Le(1)] = 0.99
    path_length: Annotated[int, Ge(1)] = 50
    path_ratio: Annotated[float, Gt(0), Lt(1)] = 1e-3
    lambdas: tuple[Annotated[float, Gt(0)], ...] = LAMBDAS
    weight_decay: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        if (
            self.has_path
            and not isinstance(self.lambda_sparse, str)
            and self.lambda_sparse not in self.lambdas
        ):
            raise ValueError(
                f"lambda_sparse = {self.lambda_sparse:g} is not among lambdas, which the path holds"
            )

    @property
    def has_path(self) -> bool:
        """Whether the final layer is a point of a path."""
        return self.final_layer == "sparse"

    @property
    def pooling(self) -> Pooling:
        """From a concept's map to one number; without maps there is nothing to pool."""
        return Pooling(kind="mean")

    @property
    def map_size(self) -> int | None:
        """Cells of a concept map along an axis; None without maps."""
        return None

    @property
    def scales_maps(self) -> bool:
        """Whether every concept's maps are brought to one deviation before they are pooled."""
        return False

    @property
    def kept_above(self) -> float:
        """Similarity to CLIP that a concept must exceed to be kept."""
        return KEEP_ALL

    def texts(self, card: Card) -> ClipTexts:
        """The stage of the vocabulary's text embeddings."""
        return ClipTexts(clip=self.clip, texts=card.vocabulary(self.vocabulary), templates=(self.template,))

    def with_path(
        self, features: BackboneImages | BackboneMaps | ClipImages, layer: ConceptLayer | ClipTexts
    ) -> dict[str, Stage]:
        """What the trial reads: the features, the concept layer, and the path if there is one."""
        stages: dict[str, Stage] = {"features": features, "concept_layer": layer}
        if self.has_path:
            stages["path"] = SparsePath(
                features=features,
                layer=layer,
                interpretability_cutoff=self.kept_above,
                pooling=self.pooling,
                unit_maps=self.scales_maps,
                alpha=self.alpha,
                path_length=self.path_length,
                path_ratio=self.path_ratio,
                lambdas=self.lambdas,
            )
        return stages

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        fit = self._choose_on_path if self.has_path else self._train_final_layer
        bottleneck, layers, facts = fit(data, seed, report)
        tensors = bottleneck.tensors()
        for selection, layer in layers.items():
            tensors |= {f"{selection}/weight": layer.weight, f"{selection}/bias": layer.bias}
        return Fitted(tensors, {**self._fate_of_concepts(data), **facts})

    def _fate_of_concepts(self, data: Data) -> dict[str, Any]:
        """Names of the concepts that are kept, and why each other one is not."""
        names = data.card.vocabulary(self.vocabulary)
        layer = data.tensors("concept_layer")
        kept = kept_concepts(layer, self.kept_above)
        reasons = {
            name: why_dropped(layer, concept) for concept, name in enumerate(names) if not kept[concept]
        }
        similarity = float(np.mean(layer["similarity"][kept])) if "similarity" in layer else None
        concepts = [name for name, keep in zip(names, kept, strict=True) if keep]
        return {"concepts": concepts, "dropped": reasons, "concept_similarity": similarity}

    def _train_final_layer(self, data: Data, seed: int, report: Report) -> Found:
        train = data.usable_split("train")
        weight = concept_layer_weights(data.tensors("concept_layer"), self.kept_above)
        bottleneck, concepts, _ = fit_bottleneck(
            data["features"], train.ids, weight, self.pooling, self.map_size, self.scales_maps
        )
        stream = rng(seed, "dense final layer")
        layer = dense_layer(concepts, train.labels, len(data.card.classes), self.weight_decay, stream)
        return bottleneck, {LAST: layer}, {}

    def _choose_on_path(self, data: Data, seed: int, report: Report) -> Found:
        path = data.tensors("path")
        fits = stored_fits(path)
        layers = [FinalLayer(fit.weight, fit.bias) for fit in fits]
        bottleneck = self._bottleneck(path)
        val = data.usable_split("val")
        concepts = bottleneck.concepts(data["features"], val.ids)
        found = [accuracies(layer, concepts, val.labels, val.groups) for layer in layers]
        for step, (fit, layer, accuracy) in enumerate(zip(fits, layers, found, strict=True)):
            report(step, lambda_sparse=fit.lambda_sparse, nec=layer.nec, **accuracy)
        position = {rule: first_best([a[f"{rule}_accuracy"] for a in found]) for rule in BY_VALIDATION}
        position[LAST] = self._position(path["lambda_sparse"], position)
        chosen = {selection: layers[at] for selection, at in position.items()}
        if self.lambda_sparse == "nec":
            chosen[LAST], position[LAST] = at_nec(fits, self.nec)
        facts = {
            name: {selection: float(path[name][at]) for selection, at in position.items()} for name in ON_PATH
        }
        return bottleneck, chosen, facts

    def _position(self, lambdas: NDArray[np.float64], by_validation: Mapping[str, int]) -> int:
        if isinstance(self.lambda_sparse, str):
            return by_validation["val_average"]
        return int(np.argmin(np.abs(np.log(lambdas / self.lambda_sparse))))  # it is one of them

    def concepts(self, fitted: Fitted, data: Data, ids: Ids) -> NDArray[np.float32]:
        """Standardised concepts (n, K) of usable images, which the final layer reads."""
        return self._bottleneck(fitted.tensors).concepts(data["features"], ids)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return self.logits(fitted, data, ids, self.concepts(fitted, data, ids), selection)

    def logits(
        self, fitted: Fitted, data: Data, ids: Ids, concepts: NDArray[np.float32], selection: str = LAST
    ) -> NDArray[np.float32]:
        """What `predict` makes of the concepts (n, K) of these images."""
        return final_layer(fitted, selection).logits(concepts)

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        metrics = self._numbers(fitted)
        bottleneck = self._bottleneck(fitted.tensors)
        layers = {selection: final_layer(fitted, selection) for selection in selections(fitted)}
        if self.has_path:
            fits = stored_fits(data.tensors("path"))
            layers |= {f"nec_{nec}": at_nec(fits, nec)[0] for nec in NEC_TARGETS}
        for split in ("val", "test"):
            concepts = bottleneck.concepts(data["features"], data.usable_split(split).ids)
            for selection, layer in layers.items():
                predictions = predictions_of(data, data.split(split).ids, known(layer.logits(concepts)))
                metrics += accuracy_metrics(data, split, predictions, self.labelled(selection))
        return metrics + self._localisation(fitted, data)

    def validated(self, card: Card) -> Mapping[str, frozenset[str]]:
        on_path = (*BY_VALIDATION, *(f"nec_{nec}" for nec in NEC_TARGETS)) if self.has_path else ()
        return {self.labelled(selection): accuracy_names() for selection in (LAST, *on_path)}

    def _localisation(self, fitted: Fitted, data: Data) -> list[Metric]:
        """Whether maps of concepts point at the parts that they name; nothing without maps."""
        return []

    def _numbers(self, fitted: Fitted) -> list[Metric]:
        """What was fitted on the training split: sparsity, certificate, agreement with CLIP. The certificate
        of a final layer that was cut to a number of effective concepts is that of the fit before."""
        facts = fitted.facts
        metrics = [Metric("n_concepts", len(facts["concepts"]), "train", selection=self.labelled(LAST))]
        if facts["concept_similarity"] is not None:
            value = facts["concept_similarity"]
            metrics.append(Metric("concept_similarity", value, "train", selection=self.labelled(LAST)))
        for selection in selections(fitted):
            layer = final_layer(fitted, selection)
            numbers = {"nonzero_weights": layer.nonzero_weights, "nec": layer.nec}
            numbers |= {name: facts[name][selection] for name in ON_PATH if name in facts}
            label = self.labelled(selection)
            metrics += [Metric(name, value, "train", selection=label) for name, value in numbers.items()]
        return metrics

    def labelled(self, selection: str) -> str:
        """The selection as results call it."""
        return selection

    def _bottleneck(self, tensors: Mapping[str, NDArray[Any]]) -> Bottleneck:
        return Bottleneck(
            weight=tensors["concept_weight"],
            mean=tensors["mean"],
            std=tensors["std"],
            pooling=self.pooling,
            grid_size=self.map_size,
        )

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        """The concepts that contribute most, by magnitude, to the predicted class: W[l, m] c[m], which with
        the bias add up to its logit (docs/methods/concept_bottlenecks.md, eq. 23). A concept below its
        average is called NOT."""
        ids = np.asarray(image_ids, np.int64)
        ids = ids[data.usable(ids)]
        if len(ids) == 0:
            return []
        concepts = self.concepts(fitted, data, ids)
        maps = self.maps(fitted, data, ids)
        layer, names = final_layer(fitted), fitted.facts["concepts"]
        predicted = self.logits(fitted, data, ids, concepts).argmax(axis=1)
        labels = data.index.labels[data.rows(ids)]
        explanations = []
        for row, image in enumerate(data.images(ids)):
            evidence = evidence_for(layer.weight[predicted[row]], concepts[row], names)
            size = image.shape[:2]
            heats = None
            if maps is not None and len(evidence.shown):
                heats = self._heatmaps(maps[row], evidence.shown, size, data.card.image_size)
            title = verdict(data.card.classes, int(predicted[row]), int(labels[row]))
            explanations.append(evidence.explanation(int(ids[row]), title, size, heats))
        return explanations

    def contributions(self, fitted: Fitted, data: Data, ids: Ids) -> list[Contributions]:
        """The first concepts of `explain`, and what each adds to the logit of the predicted class."""
        concepts = self.concepts(fitted, data, ids)
        predicted = self.logits(fitted, data, ids, concepts).argmax(axis=1)
        return contributions_to(final_layer(fitted).weight[predicted], concepts, fitted.facts["concepts"])

    def pictures(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Picture]:
        """The final layer's weights as a Sankey diagram."""
        from components.studies.concept_bottleneck.maps.pictures import draw_rules

        pixels, said = draw_rules(final_layer(fitted).weight, fitted.facts["concepts"], data.card.classes)
        return [Picture("rules", pixels, f"global rules: {said}")]

    def files(self, fitted: Fitted, data: Data) -> dict[str, str]:
        """`rules.csv`: concept, class and weight of the final layer's non-zero weights, the strongest of each
        class first."""
        return {
            "rules.csv": rules_table(final_layer(fitted).weight, fitted.facts["concepts"], data.card.classes)
        }

    def maps(self, fitted: Fitted, data: Data, ids: Ids) -> NDArray[np.float32] | None:
        """Raw concept maps (n, K, G, G) of a few images; None where the method has none."""
        return None

    def _heatmaps(
        self, maps: NDArray[np.float32], shown: NDArray[np.int64], size: Size, side: int
    ) -> NDArray[np.float32]:
        """Where each of these concepts is in the image of this size, (S, h, w), by its maps (K, G, G) of the
        backbone's square frame, `side` pixels wide."""
        raise NotImplementedError


def selections(fitted: Fitted) -> list[str]:
    """The rules by which final layers were chosen."""
    return [name.removesuffix("/bias") for name in fitted.tensors if name.endswith("/bias")]


def final_layer(fitted: Fitted, selection: str = LAST) -> FinalLayer:
    """The final layer that `selection` chose."""
    return FinalLayer(fitted.tensors[f"{selection}/weight"], fitted.tensors[f"{selection}/bias"])
