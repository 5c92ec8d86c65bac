"""What the methods share that fine-tune a trained network on few images and look at masks (CFT, arXiv
2603.08309, and what it is compared with). Equations, defaults, choices: docs/methods/guided_fine_tuning.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card, CardError
from components.data.columns import Data, Ids
from components.data.mask_files import IGNORE
from components.evaluation.accuracies import accuracy_names
from components.method import LAST, Explanation, Fitted, Metric, Report
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.pixels.places import in_pixels
from components.stage import Stage, sampled
from components.stages.base.finds import MOST_EMPTY
from components.stages.base.network_stage import FramedNetwork
from components.stages.clip_images import ClipImages
from components.stages.clip_segments import ClipSegments
from components.stages.clip_texts import ClipTexts
from components.stages.image_sizes import ImageSizes
from components.studies.guided_fine_tuning.concept_masks import (
    CLASS_CONCEPTS,
    CLASS_SEGMENTS,
    CLIP_IMAGES,
    CLIP_SEGMENTS,
    CLIP_TEXTS,
    SEGMENTS,
    ConceptChecks,
    check_concepts,
    concepts_by_class,
)
from components.studies.guided_fine_tuning.few_shot import FewShot, few_shot
from components.studies.guided_fine_tuning.knobs import FineTuningKnobs
from components.studies.guided_fine_tuning.training_masks import (
    OBJECTS,
    GuidedImages,
    guided_images,
)
from components.studies.segment_source import segments_of
from components.studies.starting_network import classifier_of

SELECTIONS = ("start", LAST, "val_loss")  # see `loop`


@dataclass(frozen=True, kw_only=True)
class FineTuned(FineTuningKnobs):
    """The procedure in the order of its steps; see its knobs."""

    # stages that fitting alone reads: an image that has no row there can be classified all the same
    TRAINING_COLUMNS: ClassVar[frozenset[str]] = frozenset(
        {SEGMENTS, CLIP_IMAGES, CLIP_SEGMENTS, CLASS_SEGMENTS}
    )

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        backbone = replace(self.backbone, precision="fp32")  # as trials start from it
        classifier = classifier_of(card, backbone, self.recipe, seed)
        stages: dict[str, Stage] = {"images": ImageSizes()}  # trials decode images: those that can be read
        if classifier is not None:
            stages["classifier"] = classifier
        found = self._mask_stages(card)
        if self.pool is None:
            return stages | found
        return stages | {name: sampled(stage, self.pool) for name, stage in found.items()}

    def models(self, card: Card) -> dict[str, Any]:
        """The network as its checkpoint has it, where no classifier stage is the start."""
        if self.recipe is not None:
            return {}
        backbone = replace(self.backbone, precision="fp32")
        size, frame = card.image_size, self.frame
        return {"network": FramedNetwork(backbone=backbone, classifier=None, image_size=size, frame=frame)}

    def _mask_stages(self, card: Card) -> dict[str, Stage]:
        """What masks are read from; CardError where the data set has not what is needed."""
        images = ClipImages(clip=self.clip)
        names = ClipTexts(clip=self.clip, texts=card.classes, templates=(self.template,))
        by_name: dict[str, Stage] = {CLASS_SEGMENTS: segments_of(self.segmenter, images, names)}
        if self.masks == "class_name":
            return by_name
        if self.masks == "object":
            if card.masks is None:
                raise CardError(f"masks: object: the card of {card.name} names no masks")
            return {}
        texts = ClipTexts(clip=self.clip, texts=card.vocabulary(self.vocabulary), templates=(self.template,))
        segments = segments_of(self.segmenter, images, texts)
        stages: dict[str, Stage] = {CLIP_IMAGES: images, CLIP_TEXTS: texts, SEGMENTS: segments}
        listed = concepts_by_class(card, self.vocabulary)
        if listed is not None:
            stages[CLASS_CONCEPTS] = listed
        if not isinstance(self.segmenter, PromptedSegmenter):
            stages[CLIP_SEGMENTS] = ClipSegments(clip=self.clip, segments=segments)
        if self.min_coverage > 0 and card.masks is None:
            if not isinstance(self.segmenter, PromptedSegmenter):
                raise CardError(
                    f"min_coverage = {self.min_coverage}: the card of {card.name} names no masks, and "
                    "segmenter is not prompted by names: set it to 0"
                )
            stages |= by_name
        return stages

    def few_shot(self, data: Data, seed: int) -> FewShot:
        """The few images, of those that have all that masks are made of."""
        ids, labels = self._candidates(data)
        return few_shot(ids, labels, self.images_per_class, self.class_share, self.held_out_per_class, seed)

    def _candidates(self, data: Data) -> tuple[Ids, Ids]:
        """Ids and labels of training images."""
        part = data.usable_split("train")
        kept = np.ones(len(part.ids), bool)
        for name in self.TRAINING_COLUMNS & self._mask_stages(data.card).keys():
            kept &= np.isin(part.ids, data[name].ids)
        if self.pool is not None:
            kept &= np.isin(part.ids, self.pool.of(data.index).image_ids)
        return part.ids[kept], part.labels[kept]

    def checks(self, data: Data, classes: Ids) -> ConceptChecks | None:
        """Of the concepts of these classes; None where masks are not of concepts."""
        if self.masks in OBJECTS:
            return None
        ids, labels = self._candidates(data)
        of_classes = np.isin(labels, classes)
        drawn = few_shot(ids[of_classes], labels[of_classes], self.checked_per_class, 1.0, 0, seed=0).trained
        rules = (self.rules, self.min_occurrence, self.min_coverage, self.coverage)
        return check_concepts(data, drawn, _labels(data, drawn), *rules)

    def guided(self, data: Data, ids: Ids, kept: NDArray[np.bool_], seed: int) -> GuidedImages:
        """These images with their masks, at the size that they are cropped from; kept (L, K)."""
        size = data.card.image_size
        side, dilation = round(self.resize * size / 224), in_pixels(self.dilation, size)
        labels = _labels(data, ids)
        return guided_images(data, ids, labels, self.masks, kept, self.rules, side, dilation, seed)

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        """Weights as `<selection>/<name>`, and the ids that were trained on and held out, without those that
        were dropped for their masks."""
        from components.studies.guided_fine_tuning.loop import fine_tune
        from components.studies.guided_fine_tuning.networks import start_network

        network = start_network(self, data)
        self.relevance.check(network)
        drawn = self.few_shot(data, seed)
        checks = self.checks(data, _labels(data, np.concatenate([drawn.trained, drawn.held_out])))
        kept = np.zeros((len(data.card.classes), 0), bool) if checks is None else checks.kept
        train, held_out = (self.guided(data, ids, kept, seed) for ids in (drawn.trained, drawn.held_out))
        done = fine_tune(self, network, train, held_out, data.card.image_size, seed, report)
        tensors = {f"{s}/{name}": x for s, weights in done.weights.items() for name, x in weights.items()}
        ids = {"trained_ids": train.ids, "held_out_ids": held_out.ids, "classes": drawn.classes}
        facts: dict[str, Any] = {
            "images_trained": len(train.ids),
            "images_held_out": len(held_out.ids),
            "masks_empty": train.masks_empty + held_out.masks_empty,
            "masks_too_large": train.masks_too_large + held_out.masks_too_large,
            "mask_share": float((train.masks == 1).sum() / (train.masks != IGNORE).sum()),
            "best_epoch": done.best_epoch,
        }
        if checks is not None:
            looked_at = checks.listed & ~np.isnan(checks.occurrence)
            facts["concepts_kept"] = int((looked_at & checks.kept).sum())
            facts["concepts_dropped"] = int((looked_at & ~checks.kept).sum())
        texts = {} if checks is None else {"concepts.csv": checks.table(*self._names(data.card))}
        return Fitted(
            {**tensors, **ids}, {"numbers": facts, "disagreement": done.disagreement, "files": texts}
        )

    def warnings(self, metrics: Sequence[Metric]) -> list[str]:
        """Where more than a tenth of the few images were dropped for their masks. Without those of a whole
        class, as where none of its concepts is kept, a trial looks as good as any."""
        told = {metric.name: metric.value for metric in metrics if metric.split == "train"}
        dropped = told["masks_empty"] + told["masks_too_large"]
        share = dropped / (told["images_trained"] + told["images_held_out"] + dropped)
        why = "whose masks are empty or too large"
        return [f"fine-tuned without {share:.0%} of its images, {why}"] if share > MOST_EMPTY else []

    def _names(self, card: Card) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return card.classes, card.vocabulary(self.vocabulary)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        from components.studies.guided_fine_tuning.networks import fitted_network, logits_of

        return logits_of([fitted_network(self, fitted, data, selection)], data, ids, self.frame)[0]

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        from components.studies.guided_fine_tuning.evaluation import evaluate_fine_tuned

        return evaluate_fine_tuned(self, fitted, data)

    def validated(self, card: Card) -> Mapping[str, frozenset[str]] | None:
        if self.explained.split == "val":  # which numbers of maps there are, masks decide
            return None
        names = accuracy_names() | {"seen_class_accuracy", "unseen_class_accuracy", "top5_accuracy"}
        return dict.fromkeys(SELECTIONS, names)

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        """The maps of the classes that are predicted, before and after."""
        from components.studies.guided_fine_tuning.evaluation import maps_before_and_after

        ids = np.asarray(image_ids, np.int64)
        return maps_before_and_after(self, fitted, data, ids[data.usable(ids)])

    def files(self, fitted: Fitted, data: Data) -> dict[str, str]:
        """`concepts.csv`: the concepts that were checked, and which were kept."""
        return dict(fitted.facts["files"])


def _labels(data: Data, ids: Ids) -> Ids:
    return data.index.labels[data.rows(ids)]
