"""The knobs that all fine-tuning methods have and their parts read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from components.data.sample import Sample
from components.method import Method
from components.models.clip.clip import Clip
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_vit import SmallVit
from components.models.relevance.relevance import Relevance
from components.models.relevance.relevances.gae import Gae
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.models.segmentation.segmenters.felzenszwalb import Felzenszwalb
from components.models.training.recipe import Recipe
from components.pixels.frames import Frame
from components.stages.clip_texts import Template
from components.studies.guided_fine_tuning.concept_masks import ConceptRules, Coverage
from components.studies.guided_fine_tuning.training_masks import MaskSource
from components.studies.starting_network import check_start

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network

Classification = Literal["self_label", "ground_truth", "kl_to_original"]


@dataclass(frozen=True, kw_only=True)
class FineTuningKnobs(Method):
    """Knobs, in the order of the steps. Lengths are pixels of a 224 frame.

    backbone, recipe, frame: the network at the start; without recipe the backbone's checkpoint with its own
    head, else trained by ERM with the trial's seed; frame: what it sees of an image in evaluation;
    images_per_class, class_share, held_out_per_class: the few images, drawn by the trial's seed, see
    `few_shot`; held-out ones choose the weights of the selection `val_loss`; pool: the training images that
    masks are made of and all these are drawn from, None for the whole split;
    masks: what an image's mask is: the union of its class's `concepts`; the `object`, by the data set; what a
    prompted segmenter finds by the `class_name`; or a control made of the concepts' mask: a `random` box of
    its area, `inverted`, or the `whole_image` (only in images whose concepts' mask is not dropped);
    clip, vocabulary, template, segmenter, k_top, box_threshold (of a prompted segmenter): concepts and their
    masks; min_occurrence, min_coverage, coverage, checked_per_class: concepts of a class that are kept, see
    `check_concepts`, on that many of its training images, the same in every trial;
    dilation: of masks; resize: to what images are squashed before a crop of 224 is cut, mirrored at random;
    epochs, batch_size, learning_rate, weight_decay: AdamW;
    relevance, signed: the map, see `unit_maps`; explained: on which images maps are judged.
    """

    VERSION: ClassVar[int] = 3

    backbone: Backbone = SmallVit()
    recipe: Recipe | None = Recipe()
    frame: Frame = "squash"
    images_per_class: Annotated[int, Ge(1)] = 3
    class_share: Annotated[float, Gt(0), Le(1)] = 0.5
    held_out_per_class: Annotated[int, Ge(1)] = 1
    pool: Sample | None = None
    masks: MaskSource = "concepts"
    clip: Clip = Clip()
    vocabulary: str = "concepts"
    template: Template = "a photo of {}"
    segmenter: Segmenter = Felzenszwalb()
    k_top: Annotated[int, Ge(1)] = 15
    box_threshold: Annotated[float, Ge(0), Le(1)] = 0.35
    min_occurrence: Annotated[float, Ge(0), Le(1)] = 0.15
    min_coverage: Annotated[float, Ge(0), Le(1)] = 0.2
    coverage: Coverage = "union"
    checked_per_class: Annotated[int, Ge(1)] = 30
    dilation: Annotated[int, Ge(0)] = 0
    resize: Annotated[int, Ge(224), Le(448)] = 256
    epochs: Annotated[int, Ge(1)] = 50
    batch_size: Annotated[int, Ge(1)] = 8
    learning_rate: Annotated[float, Gt(0)] = 3e-6
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    lambda_cls: Annotated[float, Ge(0)] = 0.2
    classification: Classification = "self_label"
    temperature: Annotated[float, Gt(0)] = 1.0
    relevance: Relevance = Gae()
    signed: bool = False
    explained: Sample = Sample()

    def __post_init__(self) -> None:
        check_start(self.backbone, self.recipe)
        if self.pool is not None and self.pool.split != "train":
            raise ValueError(f"pool.split is {self.pool.split}: fine-tuning reads training images alone")
        if isinstance(self.segmenter, PromptedSegmenter):
            self.segmenter.check(self.k_top, self.box_threshold)
        elif self.masks == "class_name":
            raise ValueError("masks: class_name needs a segmenter that is prompted by names")

    def guidance(
        self, network: "Network", pixels: "Tensor", masks: "Tensor", labels: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        """What the loss has beside the term for the class, a number in the graph, and the logits (B, C).

        pixels float32 (B, 3, S, S) in 0..255, masks float32 (B, S, S), see `losses`, labels int64 (B,).
        """
        raise NotImplementedError

    def at_steps(self) -> frozenset[str]:
        return frozenset({"held_out_loss", "train_loss"})

    @property
    def rules(self) -> ConceptRules:
        """Which segments are masks of concepts."""
        return ConceptRules(self.k_top, self.box_threshold)
