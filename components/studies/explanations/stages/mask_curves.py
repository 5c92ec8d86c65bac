"""What a classifier still sees of images whose masks are put in, or taken away, one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.identity import rng
from components.pixels.framed_segments import framed_segments, kept_masks
from components.pixels.heat import stored_heat
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors
from components.stages.base.network_stage import NetworkStage
from components.stages.base.segment_stage import SegmentStage
from components.studies.explanations.fill import Fill

Positions = NDArray[np.int64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class MaskCurves(NetworkStage):
    """Of the class that the classifier gives the whole image, `label` int32, with the `probability` float32.
    For n masks: `order` list<int32>, their positions among the image's segments, first to last; and lists of
    n + 1 float32, before the first and after each: `areas`, the share of the square's pixels that the first k
    masks cover; `insertion`, the class's probability when they alone are seen; `deletion`, when all but them
    is. Without masks the lists have their first value only.

    ranking: `mask_values` of the same segments, whose masks are taken by their values; or `heatmaps`, and
    masks are taken by their mean heat. Equal ones keep their order. None: a control, by `control`: in random
    order, or the largest first.
    min_pixels, max_masks: which masks take part (`kept_masks`) where it is not `mask_values` that says so.

    An image with a probability that is not finite fails.
    """

    VERSION: ClassVar[int] = 2

    segments: SegmentStage
    ranking: ColumnStage | None
    control: Literal["random", "area"] | None = None
    fill: Fill = "black"
    min_pixels: float = 0.0
    max_masks: int | None = None

    def __post_init__(self) -> None:
        if (self.ranking is None) == (self.control is None):
            raise ValueError("a ranking, or a control: one of them")

    @property
    def batch_size(self) -> int:
        return 16  # each is some dozens to hundreds of pictures

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        from components.studies.explanations.masked_images import MaskedImage, filling, probabilities, regions

        network = self.target(tensors, device)

        def curves(batch: Batch) -> Rows:
            orders, areas, pictures = [], [], []
            for row, image in enumerate(batch.images):
                masks = framed_segments(batch.inputs["segments"], row, self.image_size, self.frame)
                orders.append(self._order(batch, row, masks))
                region, members = regions(masks[orders[-1]])
                seen = np.concatenate([np.zeros((len(members), 1), bool), members], axis=1)
                seen = np.logical_or.accumulate(seen, axis=1).T  # (n + 1, r): by the first k masks
                areas.append(seen @ np.bincount(region.reshape(-1), minlength=len(members)) / region.size)
                shown = np.concatenate([seen, ~seen])
                pictures.append(MaskedImage(image, filling(network, image, self.fill), region, shown))
            found = list(probabilities(network, pictures, device))
            columns = {
                "order": pa.array([order.tolist() for order in orders], pa.list_(pa.int32())),
                "areas": pa.array([of_image.tolist() for of_image in areas], pa.list_(pa.float32())),
            }
            return Rows(curve_columns(found) | columns, sum(len(picture.shown) for picture in pictures))

        return curves

    def _order(self, batch: Batch, row: int, masks: Masks) -> Positions:
        """The masks (S, size, size) that take part, best first."""
        if self.ranking is not None and "values" in batch.inputs["ranking"].column_names:
            ranked = batch.inputs["ranking"].slice(row, 1)
            values = np.array(ranked["values"][0].as_py(), np.float64)
            return np.array(ranked["masks"][0].as_py(), np.int64)[np.argsort(-values, kind="stable")]
        kept = kept_masks(masks, self.min_pixels, self.max_masks)
        if self.control == "random":
            return rng(0, "order of masks", batch.records[row].image_id).permutation(kept)
        areas = masks[kept].sum(axis=(1, 2))
        if self.control == "area":
            return kept[np.argsort(-areas, kind="stable")]
        heat = stored_heat(batch.inputs["ranking"], row, self.image_size)
        means = np.array([heat[mask].mean() for mask in masks[kept]])
        return kept[np.argsort(-means, kind="stable")]


def curve_columns(found: list[NDArray[np.float32]]) -> dict[str, pa.Array]:
    """`label`, `probability`, `insertion`, `deletion` of per image (2 n + 2, C) probabilities: n + 1 of each,
    the first of deletion with the whole image."""
    halves = [np.split(of_image, 2) for of_image in found]
    labels = [int(deletion[0].argmax()) for _, deletion in halves]
    pairs = list(zip(halves, labels, strict=True))
    curves = pa.list_(pa.float32())
    return {
        "label": pa.array(labels, pa.int32()),
        "probability": pa.array([deletion[0, label] for (_, deletion), label in pairs], pa.float32()),
        "insertion": pa.array([insertion[:, label] for (insertion, _), label in pairs], curves),
        "deletion": pa.array([deletion[:, label] for (_, deletion), label in pairs], curves),
    }
