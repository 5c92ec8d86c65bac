"""The knobs of SEG-MIL-CBM, which the method has and its parts read."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from components.method import Method
from components.models.clip.clip import Clip
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.models.training.recipe import Recipe
from components.pixels.bags import BagRules, BoxRules
from components.pixels.crops import Outside
from components.stages.clip_texts import Template
from components.studies.starting_network import check_start


@dataclass(frozen=True, kw_only=True)
class SegMilKnobs(Method):
    """Knobs, in the order of the method's steps. Areas are pixels of a 224 x 224 frame.

    clip, vocabulary, template: which concepts, and how CLIP reads them;
    segmenter, k_top, box_threshold, boxes_per_concept (of a prompted segmenter), tau_min_pixels, rho_max,
    tau_iou, merge, bag_size: see docs/methods/seg_mil.md, "Which segments are in a bag"; `merge: union` makes
    new masks, so there the thresholds are part of a stage and not only of the trial;
    backbone, recipe, encode: the features h of a segment; without recipe, the backbone's checkpoint as
    it is, else trained by ERM with the trial's seed and then frozen; outside: what a segment's crop shows
    beside it;
    warmup_epochs, warmup_learning_rate, warmup_batch_size (images): the backbone is trained on with the
    head, on the crops of the bags, and then frozen, and its features standardised anew
    (docs/methods/seg_mil.md, "Warm-up"); 0, because the recipe stands in its place, whose features all trials
    share, while a warm-up is paid by each;
    head, pooling, feature_scaling, attention_temperature, attention_hidden: of docs/methods/seg_mil.md,
    eqs. 1-12; area_exponent, area_floor: gamma and r_min of docs/methods/seg_mil.md, eq. 5, of v2 alone, v1
    has no area weights; segment_dropout: the share of segments that each training step does without, an
    ablation;
    target, target_temperature, lambda_concept: docs/methods/seg_mil.md, eqs. 13-17; `shuffled` is a control,
    the z-scores of another training segment; lambda_background: weight
    of docs/methods/seg_mil.md, eq. 18, the attention on background, a mean over training bags (and in v2 over
    classes): on segments whose concept is in
    background_vocabulary, a part of the vocabulary, or, with `masks`, by the share of each segment
    outside the object's true mask, which the card must have;
    epochs, learning_rate, weight_decay, batch_size: Adam with cosine decay, on frozen features.
    """

    clip: Clip = Clip()
    vocabulary: str = "concepts"
    template: Template = "a photo of {}"
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
    outside: Outside = "image_mean"
    warmup_epochs: Annotated[int, Ge(0)] = 0
    warmup_learning_rate: Annotated[float, Gt(0)] = 1e-5
    warmup_batch_size: Annotated[int, Ge(1)] = 32
    head: Literal["v1", "v2"] = "v2"
    pooling: Literal["attention", "mean", "max"] = "attention"
    feature_scaling: Literal["zscore", "layer_norm", "none"] = "zscore"
    attention_temperature: Annotated[float, Gt(0)] = 1.0
    attention_hidden: Annotated[int, Ge(1)] = 128
    area_exponent: Annotated[float, Ge(0)] = 0.25
    area_floor: Annotated[float, Gt(0), Le(1)] = 0.01
    segment_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    target: Literal["softmax", "zscore", "shuffled"] = "softmax"
    target_temperature: Annotated[float, Gt(0)] = 0.01
    lambda_concept: Annotated[float, Ge(0)] = 0.1
    lambda_background: Annotated[float, Ge(0)] = 0.0
    background: Literal["concepts", "masks"] = "concepts"
    background_vocabulary: str = "background"
    epochs: Annotated[int, Ge(1)] = 30
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    batch_size: Annotated[int, Ge(1)] = 256

    def __post_init__(self) -> None:
        check_start(self.backbone, self.recipe)
        if isinstance(self.segmenter, PromptedSegmenter):
            self.segmenter.check(self.k_top, self.box_threshold)
        if self.lambda_background > 0 and self.pooling != "attention":
            raise ValueError(f"lambda_background needs pooling: attention; {self.pooling} has none to move")
        if self.warmup_epochs > 0 and (self.encode != "crop" or self.merge == "mean"):
            raise ValueError("warmup_epochs needs encode: crop, and merge: keep or union")

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
