"""What all stages that write segments have in common: their columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.data.columns import Column, ragged
from components.models.segmentation.segmenter import Floats, Found
from components.pixels import masks
from components.stage import ColumnStage, Size, Yield, fixed_size_lists, ragged_lists
from components.stages.base.finds import finds

TINY = 0.001  # of the image: a square of 7 pixels in a frame of 224


@dataclass(frozen=True, kw_only=True)
class SegmentStage(ColumnStage):
    """`height`, `width` int32: of the image. Per segment, in the order of whatever found them: `counts` (COCO
    run lengths), `area` int64 in pixels, `box` float64 (4,), the tight one: x, y, width, height in pixels;
    `predicted_iou`, `stability` float32, null where the segmenter has none."""

    @property
    def none_is_expected(self) -> bool:
        """Whether an image without a segment is nothing to warn of."""
        return False

    def describe(self, column: Column) -> Yield:
        """What `finds` says of the segments, and the share of those below TINY of the image: automatic
        segmenters are known to give hundreds."""
        table = column.read(column.ids, ["height", "width", "area"])
        areas, counts = ragged(table["area"])
        pixels = np.repeat(table["height"].to_numpy() * table["width"].to_numpy(), counts)
        tiny = float((areas / pixels < TINY).mean()) if len(areas) else 0.0
        found = finds("segments", counts)
        return Yield(
            {**found.numbers, "tiny_share": tiny},
            f"{found.text}, {tiny:.0%} of them tiny",
            "" if self.none_is_expected else found.warning,
        )


def segment_columns(found: Sequence[Found], sizes: Sequence[Size]) -> dict[str, pa.Array]:
    """The columns of B images with their segments and sizes."""
    counts = [segments.counts for segments in found]
    per_image = [len(runs) for runs in counts]
    areas = [masks.areas(runs, *size) for runs, size in zip(counts, sizes, strict=True)]
    boxes = [masks.boxes(runs, *size) for runs, size in zip(counts, sizes, strict=True)]
    flat = [run for runs in counts for run in runs]
    return {
        "height": pa.array([size[0] for size in sizes], pa.int32()),
        "width": pa.array([size[1] for size in sizes], pa.int32()),
        "counts": ragged_lists(pa.array(flat, pa.binary()), per_image),
        "area": ragged_lists(pa.array(np.concatenate(areas)), per_image),
        "box": ragged_lists(fixed_size_lists(np.concatenate(boxes)), per_image),
        "predicted_iou": _scores([segments.predicted_iou for segments in found]),
        "stability": _scores([segments.stability for segments in found]),
    }


def _scores(values: Sequence[Floats | None]) -> pa.Array:
    return pa.array([None if v is None else v.tolist() for v in values], pa.list_(pa.float32()))
