"""What the post-hoc explanations share: a classifier that they explain, and how well they rank its evidence.

A method file gives `ranking`, the stage of its heatmaps or mask values. Everything costly is a stage; a trial
reads curves and makes numbers of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from components.data.card import Card
from components.data.columns import Column, Data, Ids
from components.data.sample import Sample
from components.evaluation.accuracies import predictions_of
from components.evaluation.object_heatmaps import object_pointing_metrics, segmentation_metrics
from components.identity import component_name
from components.method import LAST, Explanation, Fitted, Method, Metric, Report
from components.metrics.accuracy import average_accuracy
from components.metrics.insertion_deletion import standard_error
from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.models.segmentation.segmenters.slic import Slic
from components.models.training.recipe import Recipe
from components.pixels.crops import stored_masks
from components.pixels.frames import Frame
from components.pixels.heat import Heat, heat_of, unframed
from components.stage import ColumnStage, Stage, sampled
from components.stages.base.network_stage import FramedNetwork
from components.stages.base.segment_stage import SegmentStage
from components.stages.segments import Segments
from components.studies.explanations.curve_scores import mask_scores, pixel_scores, top_masks
from components.studies.explanations.fill import Fill, Substrate
from components.studies.explanations.stages.heatmaps import Heatmaps
from components.studies.explanations.stages.mask_curves import MaskCurves
from components.studies.explanations.stages.mask_values import MaskValues
from components.studies.explanations.stages.pixel_curves import PixelCurves
from components.studies.explanations.top_mask_scores import SEGMENT_FIELDS, top_mask_metrics
from components.studies.starting_network import check_start, classifier_of

CONTROLS = ("random", "area")


@dataclass(frozen=True, kw_only=True)
class AttributionMethod(Method):
    """Knobs of what is explained and of how it is judged.

    backbone, recipe: the classifier that is explained; without recipe the backbone's checkpoint with its own
    head, else trained by ERM with the trial's seed; always the class that it predicts. So that all stages see
    the same class, the precision `auto` is fp32 on every device, and heatmaps know no other;
    frame: what the network sees of an image that is no square;
    segmenter: whose masks are ranked; min_pixels, max_masks: those with fewer pixels of a 224 frame are left
    out, and then all but the largest so many;
    sample: the images that are explained; fill: what hidden masks show;
    pixels_per_step: of the pixel-wise curves, in a 224 frame: 224 in RISE's code, 1792 in its notebook;
    substrate: the blurred image that they insert into: as RISE's code makes it, or a plain Gaussian.
    """

    backbone: Backbone = SmallCnn()
    recipe: Recipe | None = Recipe()
    frame: Frame = "squash"
    segmenter: Segmenter = Slic()
    min_pixels: Annotated[float, Ge(0)] = 0.0
    max_masks: Annotated[int, Ge(1)] | None = None
    sample: Sample = Sample()
    fill: Fill = "black"
    pixels_per_step: Annotated[float, Gt(0)] = 1792.0
    substrate: Substrate = "rise_blur"

    def __post_init__(self) -> None:
        if isinstance(self.segmenter, PromptedSegmenter):
            raise ValueError(
                "segmenter: one that is prompted by concepts cannot cut masks for an explanation; phrase_sam,"
                " which asks for the same phrases in every image, can"
            )
        check_start(self.backbone, self.recipe)

    def ranking(self, card: Card, seed: int) -> ColumnStage:
        """The stage `heatmaps`, or `mask_values` of `segments()`."""
        raise NotImplementedError

    def target(self, card: Card, seed: int) -> FramedNetwork:
        """The network that is explained."""
        backbone = self.backbone
        if backbone.precision == "auto":
            backbone = replace(backbone, precision="fp32")
        return FramedNetwork(
            backbone=backbone,
            classifier=classifier_of(card, backbone, self.recipe, seed),
            image_size=card.image_size,
            frame=self.frame,
        )

    def segments(self) -> SegmentStage:
        """The stage of the masks that are ranked."""
        return Segments(segmenter=self.segmenter)

    def stages(self, card: Card, seed: int) -> dict[str, Stage]:
        target, segments, ranking = self.target(card, seed), self.segments(), self.ranking(card, seed)
        if isinstance(ranking, Heatmaps):
            target = replace(target, backbone=ranking.backbone)

        def curves(**order: Any) -> MaskCurves:
            return MaskCurves(
                **vars(target),
                segments=segments,
                fill=self.fill,
                min_pixels=self.min_pixels,
                max_masks=self.max_masks,
                **order,
            )

        stages: dict[str, Stage] = {
            "segments": segments,
            **_costly_inputs(ranking),
            "ranking": ranking,
            "mask_curves": curves(ranking=ranking),
            **{f"{control}_order": curves(ranking=None, control=control) for control in CONTROLS},
            "pixel_curves": PixelCurves(
                **vars(target),
                ranking=ranking,
                segments=segments if isinstance(ranking, MaskValues) else None,
                pixels_per_step=self.pixels_per_step,
                substrate=self.substrate,
            ),
        }
        return {name: sampled(stage, self.sample) for name, stage in stages.items()}

    def fit(self, data: Data, seed: int, report: Report) -> Fitted:
        """Nothing is fitted. `image_ids`, `top_mask` (see `top_masks`) and the scores of the images that were
        explained, (n,) each, so that trials can be compared image by image."""
        ids = data.usable_split(self.sample.split).ids
        scores = mask_scores(data["mask_curves"], ids) | pixel_scores(data["pixel_curves"], ids)
        return Fitted({"image_ids": ids, "top_mask": top_masks(data["mask_curves"], ids), **scores})

    def predict(self, fitted: Fitted, data: Data, ids: Ids, selection: str = LAST) -> NDArray[np.float32]:
        """The explained class has its probability, every other 0. Without recipe the classes are those of the
        checkpoint, which may be others than the data set's."""
        table = data["mask_curves"].read(ids, ["label", "probability"])
        labels = table["label"].to_numpy()
        logits = np.zeros((len(ids), max(len(data.card.classes), labels.max(initial=0) + 1)), np.float32)
        logits[np.arange(len(ids)), labels] = table["probability"].to_numpy()
        return logits

    def evaluate(self, fitted: Fitted, data: Data) -> list[Metric]:
        """Means over the explained images that have masks (`images_without_masks` have none): the areas under
        the curves by each rule, of the method and of both controls, their standard errors; and where there
        are masks of objects, how well heatmaps and first masks find them.

        `model_inputs_per_image`: of the explained network, for the ranking; `seconds_per_image`: for all that
        was made for the ranking, the masks too where they are what is valued. `average_accuracy`: of the
        classifier, where it was trained; an image that failed counts as wrong.
        """
        split = self.sample.split
        ids = data.usable_split(split).ids
        names = set(fitted.tensors) - {"image_ids", "top_mask"}
        numbers = {"n_images": float(len(ids))}
        for name in sorted(names):
            numbers[name] = _mean(fitted.tensors[name])
            if "_auc_" in name:
                numbers[f"{name}_standard_error"] = standard_error(_known(fitted.tensors[name]))
        numbers["images_without_masks"] = float((fitted.tensors["top_mask"] < 0).sum())
        for control in CONTROLS:
            scores = mask_scores(data[f"{control}_order"], ids)
            numbers |= {f"{n}_{control}_order": _mean(x) for n, x in scores.items() if "_auc_" in n}
        numbers |= self._cost(data)
        if self.recipe is not None and data.card.labelled:
            numbers["average_accuracy"] = self._accuracy(fitted, data)

        def heatmaps(ids: Ids) -> Heat:
            return self._heatmaps(data, ids)

        return [
            *(Metric(name, value, split) for name, value in numbers.items()),
            *segmentation_metrics(data, split, heatmaps, self.frame),
            *object_pointing_metrics(data, split, heatmaps, self.frame),
            *top_mask_metrics(data, split, ids, fitted.tensors["top_mask"]),
            *top_mask_metrics(data, split, ids, top_masks(data["random_order"], ids), "_random_order"),
        ]

    def validated(self, card: Card) -> Mapping[str, frozenset[str]] | None:
        return None if self.sample.split == "val" else {}

    def explain(self, fitted: Fitted, data: Data, image_ids: Sequence[int]) -> list[Explanation]:
        """The heatmap, or the masks and their values."""
        ids = np.asarray(image_ids, np.int64)
        ids = ids[data.usable(ids)]
        if len(ids) == 0:
            return []
        predicted = data["mask_curves"].read(ids, ["label", "probability"]).to_pylist()
        return [
            Explanation(int(image_id), _title(data.card, row), *self._evidence(data, image_id))
            for image_id, row in zip(ids, predicted, strict=True)
        ]

    def _cost(self, data: Data) -> dict[str, float]:
        ranking = self.ranking(data.card, seed=0)
        passed = [data[name] for name in ("ranking", *_costly_inputs(ranking))]
        needed = [*passed, data["segments"]] if isinstance(ranking, MaskValues) else passed
        return _per_image("model_inputs", passed) | _per_image("seconds", needed)

    def _accuracy(self, fitted: Fitted, data: Data) -> float:
        """Of the sample's images."""
        part = data.split(self.sample.split)
        counted = data.usable(part.ids) | data.failed(part.ids)
        predictions = predictions_of(data, part.ids[counted], lambda ids: self.predict(fitted, data, ids))
        return average_accuracy(predictions, part.labels[counted])

    def _heatmaps(self, data: Data, ids: Ids) -> Heat:
        """Of the square frame, (n, S, S)."""
        column, size = data["ranking"], data.card.image_size
        ranking = column.read(ids, column.fields)
        segments = data["segments"].read(ids, SEGMENT_FIELDS)
        rows = range(len(ids))
        return np.stack([heat_of(ranking, segments, row, size, self.frame) for row in rows])

    def _evidence(
        self, data: Data, image_id: int
    ) -> tuple[NDArray[np.bool_] | NDArray[np.float32], NDArray[np.floating], tuple[str, ...]]:
        """Masks or heatmap of an image as it is, weights and captions."""
        one = np.array([image_id])
        segments = data["segments"].read(one, SEGMENT_FIELDS)
        height, width = (int(segments[side][0].as_py()) for side in ("height", "width"))
        if "heatmap" in data["ranking"].fields:
            heat = unframed(self._heatmaps(data, one)[0], (height, width), self.frame)
            return heat[None], np.ones(1), (component_name(self),)
        ranked = data["ranking"].read(one, ["masks", "values"])
        chosen, values = ranked["masks"][0].as_py(), np.array(ranked["values"][0].as_py(), np.float64)
        if not chosen:
            return np.ones((1, height, width), bool), np.zeros(1), ("no mask",)
        return stored_masks(segments, 0)[chosen], values, tuple(f"value {value:+.3f}" for value in values)


def _costly_inputs(ranking: ColumnStage) -> dict[str, ColumnStage]:
    """What was made for the ranking alone, by its own names."""
    inputs = ranking.inputs().items()
    return {n: x for n, x in inputs if isinstance(x, ColumnStage) and not isinstance(x, SegmentStage)}


def _per_image(name: str, columns: Sequence[Column]) -> dict[str, float]:
    """Model inputs or seconds per image of columns together; nothing where they were not kept."""
    costs = [(column.cost(), len(column.ids)) for column in columns]
    if not all(name in cost for cost, _ in costs):
        return {}
    return {f"{name}_per_image": sum(cost[name] / max(n, 1) for cost, n in costs)}


def _title(card: Card, row: dict[str, Any]) -> str:
    label = row["label"]
    name = card.classes[label] if label < len(card.classes) else f"class {label}"
    return f"{name} ({row['probability']:.0%})"


def _known(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values[~np.isnan(values)]


def _mean(values: NDArray[np.floating]) -> float:
    known = _known(values)
    return float(known.mean()) if len(known) else float("nan")
