"""SEG-MIL-CBM (arXiv 2510.04180): segments as instances of a bag, pooled by attention over concepts.

Head v1 pools concept vectors, head v2 class evidence. Equations, and where each default comes from:
docs/methods/seg_mil.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.card import Card, CardError
from components.data.columns import Data, Ids
from components.evaluation.accuracies import accuracy_metrics, accuracy_names, known, predictions_of
from components.identity import rng
from components.method import LAST, Contributions, Explanation, Fitted, Metric, Picture, Report
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.stage import Stage
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_segments import BackboneSegments
from components.stages.base.network_stage import FramedNetwork
from components.stages.clip_images import ClipImages
from components.stages.clip_segments import ClipSegments
from components.stages.clip_texts import ClipTexts
from components.stages.merged_segments import MergedSegments
from components.stages.segments import Segments
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.objects import OBJECT_MASKS, OF_BAGS, OF_CONCEPTS, OF_OBJECTS
from components.studies.segment_source import segments_of
from components.studies.starting_network import trunk_of

if TYPE_CHECKING:
    from components.studies.seg_mil.bag_tensors import BagTensors
    from components.studies.seg_mil.head import MilHead

BACKBONE = "backbone/"  # the fitted tensors of a backbone that was warmed up
SELECTIONS = (LAST, "val_average", "val_worst_group")  # the third reads group labels: an oracle


@dataclass(frozen=True, kw_only=True)
class SegMilCbm(SegMilKnobs):
    """The method in the order of its steps; see its knobs."""

    VERSION: ClassVar[int] = 4

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        classifier = trunk_of(card, self.backbone, self.recipe, seed)
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
        network = FramedNetwork(backbone=self.backbone, classifier=classifier, image_size=card.image_size)
        stages = {
            "clip_images": images,
            "clip_texts": texts,
            "segments": segments,
            "clip_segments": ClipSegments(clip=self.clip, segments=segments, outside=self.outside),
            "images": BackboneImages(**vars(network)),
            "features": BackboneSegments(
                **vars(network), segments=segments, encode=self.encode, outside=self.outside
            ),
        }
        if self.warmup_epochs > 0 and classifier is not None:
            stages["classifier"] = classifier
        if card.masks is not None:
            stages[OBJECT_MASKS] = Segments(segmenter=ObjectMask())
        if self.lambda_background > 0:
            stages |= self._background(card)
        return stages

    def _background(self, card: Card) -> dict[str, Stage]:
        """The background list as a stage, whose embeddings nobody reads: so it is part of the trial's
        identity. CardError where the data set cannot say what is background."""
        if self.background == "masks":
            if card.masks is None:
                raise CardError(f"background: masks: the card of {card.name} names no masks")
            return {}
        listed, concepts = card.vocabulary(self.background_vocabulary), card.vocabulary(self.vocabulary)
        unknown = sorted(set(listed) - set(concepts)) if concepts else []
        if unknown:
            raise CardError(
                f"{self.background_vocabulary} of {card.name}: {unknown[0]!r} is not in {self.vocabulary}"
            )
        return {"background_texts": ClipTexts(clip=self.clip, texts=listed, templates=(self.template,))}

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        from components.models.networks.network import dump_tensors
        from components.studies.seg_mil.background import background_shares
        from components.studies.seg_mil.bag_tensors import MilFitted, read_bags
        from components.studies.seg_mil.heads import new_head, rescale
        from components.studies.seg_mil.targets import shuffled
        from components.studies.seg_mil.training import fit_head
        from components.studies.seg_mil.warm_up import encoded, warm_up

        train, val = (read_bags(self, data, data.usable_split(split).ids) for split in ("train", "val"))
        if self.lambda_background > 0:
            train = replace(train, background=background_shares(self, data, train.bags))
        if self.target == "shuffled":
            stream = rng(seed, "seg_mil_cbm shuffled concepts")
            train = replace(train, similarities=shuffled(train.similarities, train.valid, stream))
        head = new_head(self, data, train, seed)
        backbone: dict[str, Any] = {}
        if self.warmup_epochs > 0:
            network = warm_up(self, data, head, train, seed, report)
            train, val = (encoded(network, data, bags, self.outside) for bags in (train, val))
            rescale(head, train)
            backbone = {f"{BACKBONE}{name}": value for name, value in dump_tensors(network).items()}
        found = fit_head(self, data, head, train, val, seed, report)
        fitted = MilFitted(found.tensors | backbone, found.facts)
        fitted.bags(self, data, val.bags.ids, lambda: val)
        return fitted

    def bags(self, fitted: Fitted, data: Data, ids: Ids) -> "BagTensors":
        """The bags of these images (all usable) as the fitted head sees them; read once while the trial that
        fitted it asks for those of one split."""
        from components.studies.seg_mil.bag_tensors import MilFitted

        def read() -> "BagTensors":
            return self._read(fitted, data, ids)

        return fitted.bags(self, data, ids, read) if isinstance(fitted, MilFitted) else read()

    def _read(self, fitted: Fitted, data: Data, ids: Ids) -> "BagTensors":
        from components.studies.seg_mil.bag_tensors import read_bags
        from components.studies.seg_mil.warm_up import encoded, warmed

        bags = read_bags(self, data, ids)
        if self.warmup_epochs == 0:
            return bags
        tensors = {
            name.removeprefix(BACKBONE): value
            for name, value in fitted.tensors.items()
            if name.startswith(BACKBONE)
        }
        return encoded(warmed(self, data, tensors), data, bags, self.outside)

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        return self._logits(fitted, self.bags(fitted, data, ids), selection)

    def _logits(self, fitted: Fitted, bags: "BagTensors", selection: str) -> NDArray[np.float32]:
        from components.studies.seg_mil.heads import run_head

        return run_head(self.fitted_head(fitted, selection), bags)[0]

    def fitted_head(self, fitted: Fitted, selection: str = LAST) -> "MilHead":
        """The fitted head in evaluation mode, as this selection chose it."""
        from components.studies.seg_mil.heads import load_head

        return load_head(self, fitted, selection)

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        from components.studies.seg_mil.diagnostics import diagnostics
        from components.studies.seg_mil.faithfulness import faithfulness

        metrics = []
        for split in ("val", "test"):
            bags = self.bags(fitted, data, data.usable_split(split).ids)
            for selection in SELECTIONS:
                logits = self._logits(fitted, bags, selection)
                predictions = predictions_of(data, data.split(split).ids, known(logits))
                metrics += accuracy_metrics(data, split, predictions, selection)
            metrics += diagnostics(self, self.fitted_head(fitted), data, bags, split)
            if split == "test":
                metrics += faithfulness(self.fitted_head(fitted), bags, split)
        return metrics

    def warnings(self, metrics: Sequence[Metric]) -> list[str]:
        """Of bags that are the whole image, where there are more than `MOST_FALLBACK` in a split."""
        by_split = {(m.name, m.split): m.value for m in metrics if m.group == "all"}
        return [
            f"no segment survived in {by_split['whole_image_fallback', split]:.0%} of the bags ({split})"
            for (name, split), often in by_split.items()
            if name == "whole_image_fallback_too_often" and often == 1
        ]

    def at_steps(self) -> frozenset[str]:
        of_warm_up = {"train_warmup_loss"} if self.warmup_epochs else set()
        return frozenset({"train_loss", "val_average_accuracy", "val_worst_group_accuracy", *of_warm_up})

    def validated(self, card: Card) -> Mapping[str, frozenset[str]]:
        diagnosed = OF_BAGS if card.masks is None else OF_BAGS | OF_OBJECTS
        diagnosed |= frozenset(OF_CONCEPTS if card.shows is not None else ())
        return {**dict.fromkeys(SELECTIONS, accuracy_names()), LAST: accuracy_names() | diagnosed}

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        from components.studies.seg_mil.explanation import explain_bags
        from components.studies.seg_mil.training import trusted_names

        ids = np.asarray(image_ids, np.int64)
        ids = ids[data.usable(ids)]
        head, bags = self.fitted_head(fitted), self.bags(fitted, data, ids)
        return explain_bags(self, head, data, bags, trusted_names(fitted))

    def contributions(self, fitted: Fitted, data: Data, ids: Ids) -> list[Contributions]:
        from components.studies.seg_mil.explanation import strongest_segments
        from components.studies.seg_mil.training import trusted_names

        head, bags = self.fitted_head(fitted), self.bags(fitted, data, ids)
        return strongest_segments(self, head, data, bags, trusted_names(fitted))

    def pictures(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Picture]:
        """The wrong test images of highest confidence in each group, with the reason where masks say it."""
        from components.studies.seg_mil.failures import failure_pictures
        from components.studies.seg_mil.training import trusted_names

        head, bags = self.fitted_head(fitted), self.bags(fitted, data, data.usable_split("test").ids)
        return failure_pictures(self, head, data, bags, trusted_names(fitted))
