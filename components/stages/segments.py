"""Segments of every image, as a segmenter produces them: nothing is filtered here."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components import masks
from components.models.segmenter import Segmenter
from components.stage import (
    Batch,
    BatchMap,
    ColumnStage,
    Rows,
    Tensors,
    fixed_size_lists,
    ragged_lists,
)


@dataclass(frozen=True, kw_only=True)
class Segments(ColumnStage):
    """`height`, `width` int32: of the image. Per segment, in the segmenter's order: `counts` (COCO run
    lengths), `area` int64 in pixels, `box` float64 (4,) x, y, width, height in pixels."""

    segmenter: Segmenter

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        def cut(batch: Batch) -> Rows:
            found = [
                self.segmenter.segment(image, record)
                for image, record in zip(batch.images, batch.records, strict=True)
            ]
            return Rows(_columns(found, batch.images), len(batch))

        return cut


def _columns(found: list[NDArray[np.bool_]], images: list[NDArray[np.uint8]]) -> dict[str, pa.Array]:
    counts = [masks.encode(segments) if len(segments) else [] for segments in found]
    sizes = [image.shape[:2] for image in images]
    per_image = [len(segments) for segments in counts]
    areas = [masks.areas(runs, *size) for runs, size in zip(counts, sizes, strict=True)]
    boxes = [masks.boxes(runs, *size) for runs, size in zip(counts, sizes, strict=True)]
    flat = [run for runs in counts for run in runs]
    return {
        "height": pa.array([size[0] for size in sizes], pa.int32()),
        "width": pa.array([size[1] for size in sizes], pa.int32()),
        "counts": ragged_lists(pa.array(flat, pa.binary()), per_image),
        "area": ragged_lists(pa.array(np.concatenate(areas)), per_image),
        "box": ragged_lists(fixed_size_lists(np.concatenate(boxes)), per_image),
    }
