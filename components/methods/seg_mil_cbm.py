"""SEG-MIL-CBM (arXiv 2510.04180): segments as instances of a bag, pooled by attention over concepts.

Variant v1: pooled concept vectors. Equations and defaults: spec A4-A7; where the paper is silent the
defaults are the spec's own choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from components.bags import BagRules, BoxRules
from components.card import Card
from components.data import Data, Ids
from components.evaluation import accuracy_metrics, known, predictions_of
from components.method import LAST, Explanation, Fitted, Method, Metric, Report
from components.models.backbone import Backbone
from components.models.backbones.small_cnn import SmallCnn
from components.models.clip import Clip
from components.models.prompted_segmenter import PromptedSegmenter
from components.models.segmenter import Segmenter
from components.models.segmenters.felzenszwalb import Felzenszwalb
from components.proposals import segments_of
from components.recipe import Recipe
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_segments import BackboneSegments
from components.stages.classifier import classifier_of
from components.stages.clip_images import ClipImages
from components.stages.clip_segments import ClipSegments
from components.stages.clip_texts import ClipTexts
from components.stages.merged_segments import MergedSegments

if TYPE_CHECKING:
    from components.models.mil_bags import BagTensors
    from components.models.mil_v1 import MilV1

SELECTIONS = (LAST, "val_average", "val_worst_group")  # the third reads group labels: an oracle


@dataclass(frozen=True, kw_only=True)
class SegMilCbm(Method):
    """Knobs, in the order of the method's steps. Areas are pixels of a 224 x 224 frame.

    clip, vocabulary, template: which concepts, and how CLIP reads them;
    segmenter, k_top, box_threshold, boxes_per_concept (of a prompted segmenter), tau_min_pixels, rho_max,
    tau_iou, merge, bag_size: which segments are in a bag (A4); `merge: union` makes new masks, so there the
    thresholds are part of a stage and not only of the trial;
    backbone, recipe, encode: the features h of a segment; without recipe, the backbone's checkpoint as
    it is, else trained by ERM with the trial's seed and then frozen;
    attention_temperature, attention_hidden: the head (A5); target, target_temperature, lambda_concept:
    the losses (A6); epochs, learning_rate, weight_decay, batch_size: Adam with cosine decay (A7).
    """

    clip: Clip = Clip()
    vocabulary: str = "concepts"
    template: str = "a photo of {}"
    segmenter: Segmenter = Felzenszwalb()
    k_top: Annotated[int, Ge(1)] = 10
    tau_min_pixels: Annotated[float, Ge(0)] = 256.0
    rho_max: Annotated[float, Gt(0), Le(1)] = 0.9
    tau_iou: Annotated[float, Ge(0), Le(1)] = 0.8
    merge: Literal["keep", "mean", "union"] = "keep"
    box_threshold: Annotated[float, Ge(0), Le(1)] = 0.25
    boxes_per_concept: Annotated[int, Ge(1)] = 2
    bag_size: Annotated[int, Ge(1)] = 15
    pixel_frame: Literal["224", "native"] = "224"
    backbone: Backbone = SmallCnn()
    recipe: Recipe | None = Recipe()
    encode: Literal["crop", "pool"] = "crop"
    attention_temperature: Annotated[float, Gt(0)] = 1.0
    attention_hidden: Annotated[int, Ge(1)] = 128
    target: Literal["softmax", "zscore"] = "softmax"
    target_temperature: Annotated[float, Gt(0)] = 0.01
    lambda_concept: Annotated[float, Ge(0)] = 0.1
    epochs: Annotated[int, Ge(1)] = 30
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    batch_size: Annotated[int, Ge(1)] = 256

    def __post_init__(self) -> None:
        if self.recipe is None and self.backbone.checkpoint is None:
            raise ValueError("recipe is null and backbone has no checkpoint: its features are random")
        if isinstance(self.segmenter, PromptedSegmenter) and self.k_top > self.segmenter.k_top_stored:
            stored = self.segmenter.k_top_stored
            raise ValueError(f"k_top = {self.k_top} is more than segmenter.k_top_stored = {stored}")

    @property
    def boxes(self) -> BoxRules | None:
        """Which of a detector's boxes count; None without a detector."""
        if not isinstance(self.segmenter, PromptedSegmenter):
            return None
        return BoxRules(self.k_top, self.box_threshold, self.boxes_per_concept)

    @property
    def rules(self) -> BagRules:
        """Which segments are in a bag."""
        return BagRules(
            k_top=self.k_top,
            tau_min_pixels=self.tau_min_pixels,
            rho_max=self.rho_max,
            tau_iou=self.tau_iou,
            bag_size=self.bag_size,
            pixel_frame=self.pixel_frame,
            merge="mean" if self.merge == "mean" else "keep",
            boxes=self.boxes,
        )

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        recipe = self.recipe
        classifier = None if recipe is None else classifier_of(card, self.backbone, recipe, seed)
        images = ClipImages(clip=self.clip)
        texts = ClipTexts(clip=self.clip, texts=card.vocabulary(self.vocabulary), templates=(self.template,))
        segments = segments_of(self.segmenter, images, texts)
        if self.merge == "union":
            segments = MergedSegments(
                segments=segments,
                tau_min_pixels=self.tau_min_pixels,
                rho_max=self.rho_max,
                tau_iou=self.tau_iou,
                pixel_frame=self.pixel_frame,
                boxes=self.boxes,
            )
        network: dict[str, Any] = {
            "backbone": self.backbone,
            "classifier": classifier,
            "image_size": card.image_size,
        }
        return {
            "clip_images": images,
            "clip_texts": texts,
            "segments": segments,
            "clip_segments": ClipSegments(clip=self.clip, segments=segments),
            "images": BackboneImages(**network),
            "features": BackboneSegments(**network, segments=segments, encode=self.encode),
        }

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        from components.models.mil_bags import read_bags
        from components.models.mil_training import fit_head

        bags = {split: read_bags(self, data, data.usable_split(split).ids) for split in ("train", "val")}
        return fit_head(self, data, bags["train"], bags["val"], seed, report)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        from components.models.mil_bags import read_bags

        return self._logits(fitted, read_bags(self, data, ids), selection)

    def _logits(self, fitted: Fitted, bags: "BagTensors", selection: str) -> NDArray[np.float32]:
        from components.models.mil_training import run_head

        return run_head(self.head(fitted, selection), bags)[0]

    def head(self, fitted: Fitted, selection: str = LAST) -> "MilV1":
        """The fitted head in evaluation mode, as this selection chose it."""
        from components.models.mil_training import load_head

        return load_head(self, fitted, selection)

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        from components.models.mil_bags import read_bags
        from components.models.mil_training import diagnostics

        metrics = []
        for split in ("val", "test"):
            bags = read_bags(self, data, data.usable_split(split).ids)
            for selection in SELECTIONS:
                logits = self._logits(fitted, bags, selection)
                predictions = predictions_of(data, data.split(split).ids, known(logits))
                metrics += accuracy_metrics(data, split, predictions, selection)
            metrics += diagnostics(self.head(fitted), bags, split)
        return metrics

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        from components.models.mil_bags import read_bags
        from components.models.mil_explanation import explain_bags

        ids = np.asarray(image_ids, np.int64)
        ids = ids[data.usable(ids)]
        return explain_bags(self, self.head(fitted), data, read_bags(self, data, ids))
