"""A linear probe on one region of each image: what a network's features of the object alone would reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from components.data.card import Card, CardError
from components.data.columns import Data, Ids, ragged_vectors
from components.data.images import DataError
from components.evaluation.accuracies import accuracy_metrics, accuracy_names, known, predictions_of
from components.method import LAST, Fitted, Method, Metric, Report
from components.models.clip.clip import Clip
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.models.segmentation.segmenters.whole_image import WholeImage
from components.models.training.recipe import Recipe
from components.pixels.crops import Outside
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_segments import BackboneSegments
from components.stages.base.network_stage import FramedNetwork
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from components.studies.segment_source import segments_of
from components.studies.starting_network import check_start, trunk_of

PASSES = 2000  # of L-BFGS


@dataclass(frozen=True, kw_only=True)
class RegionProbe(Method):
    """Logistic regression with an L2 penalty on standardised features of one crop of each image, cut as
    SEG-MIL-CBM cuts its segments: the control that tells what a bag, its attention and its concepts add to
    knowing where the object is.

    segmenter: `object_mask`, the data set's own mask, an oracle; a prompted one, its best scored segment for
    `text` of at least `box_threshold` (clip is what its stage of boxes is asked with); `whole_image`, no
    region. An image without its region is seen whole, and `region_found` is the share of those that have one;
    backbone, recipe, outside: as in SEG-MIL-CBM; inverse_strength: scikit-learn's C.
    """

    clip: Clip = Clip()
    segmenter: Segmenter = ObjectMask()
    text: str = "object"
    box_threshold: Annotated[float, Ge(0), Le(1)] = 0.25
    backbone: Backbone = SmallCnn()
    recipe: Recipe | None = Recipe()
    outside: Outside = "image_mean"
    inverse_strength: Annotated[float, Gt(0)] = 1.0

    def __post_init__(self) -> None:
        check_start(self.backbone, self.recipe)
        if not isinstance(self.segmenter, (ObjectMask, PromptedSegmenter, WholeImage)):
            raise ValueError("segmenter must give one region: object_mask, whole_image or a prompted one")
        if isinstance(self.segmenter, PromptedSegmenter):
            self.segmenter.check(1, self.box_threshold)

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        if isinstance(self.segmenter, ObjectMask) and card.masks is None:
            raise CardError(f"segmenter: object_mask: the card of {card.name} names no masks")
        classifier = trunk_of(card, self.backbone, self.recipe, seed)
        texts = ClipTexts(clip=self.clip, texts=(self.text,), templates=("{}",))
        segments = segments_of(self.segmenter, ClipImages(clip=self.clip), texts)
        network = FramedNetwork(backbone=self.backbone, classifier=classifier, image_size=card.image_size)
        return {
            "segments": segments,
            "images": BackboneImages(**vars(network)),
            "features": BackboneSegments(
                **vars(network), segments=segments, encode="crop", outside=self.outside
            ),
        }

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from components.studies.baselines.balanced_regression import of_two_classes, unscaled

        train, classes = data.usable_split("train"), data.card.classes
        absent = [name for label, name in enumerate(classes) if label not in train.labels]
        if absent:
            raise DataError(f"no usable image of {absent[0]!r} in the split 'train' to fit a probe to")
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=self.inverse_strength, max_iter=PASSES)
        ).fit(self.features(data, train.ids)[0].astype(np.float64), train.labels)
        scaler, layer = probe[0], probe[1]
        weight, bias = layer.coef_, layer.intercept_
        if len(classes) == 2:
            weight, bias = of_two_classes(weight, bias)
        weight, bias = unscaled(weight, bias, scaler)
        return Fitted({"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)})

    def features(self, data: Data, ids: Ids) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The features (n, F) of the images' regions, and which have one, bool (n,)."""
        per_segment, counts = ragged_vectors(data["features"].read(ids, ["features"])["features"])
        best, found = self._regions(data, ids, counts)
        whole = data["images"].array("features", ids)
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
        rows = np.where(found, starts + best, len(per_segment) + np.arange(len(ids)))
        return np.concatenate([per_segment, whole])[rows], found

    def _regions(
        self, data: Data, ids: Ids, counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The place of each image's region among its segments, int64 (n,), and whether it has one."""
        first = np.zeros(len(ids), np.int64)
        if not isinstance(self.segmenter, PromptedSegmenter):
            return first, counts > 0
        scores = data["segments"].read(ids, ["score"])["score"].to_pylist()
        best = np.array([int(np.argmax(one)) if one else 0 for one in scores], np.int64)
        return best, np.array([max(one, default=-1.0) >= self.box_threshold for one in scores], bool)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return self._logits(fitted, self.features(data, ids)[0])

    def _logits(self, fitted: Fitted, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return features @ fitted.tensors["weight"].T + fitted.tensors["bias"]

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        metrics = []
        for split in ("val", "test"):
            features, found = self.features(data, data.usable_split(split).ids)
            logits = known(self._logits(fitted, features))
            metrics += accuracy_metrics(data, split, predictions_of(data, data.split(split).ids, logits))
            metrics.append(Metric("region_found", float(found.mean()) if len(found) else float("nan"), split))
        return metrics

    def validated(self, card: Card) -> Mapping[str, frozenset[str]]:
        return {LAST: accuracy_names() | {"region_found"}}
