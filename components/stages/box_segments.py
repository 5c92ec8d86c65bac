"""Segments from boxes: one mask for each box that a detector found."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.columns import ragged_vectors, whole
from components.models.segmentation.box_segmenter import BoxSegmenter
from components.stage import Batch, BatchMap, Rows, Tensors
from components.stages.base.segment_stage import SegmentStage, segment_columns
from components.stages.boxes import Boxes

OF_THE_BOX = ("score", "concept", "rank")


@dataclass(frozen=True, kw_only=True)
class BoxSegments(SegmentStage):
    """In the order of `boxes`; and of the box that a mask was made of, as stage `boxes` writes them:
    `source_box`, `score`, `concept`, `rank`."""

    boxes: Boxes
    segmenter: BoxSegmenter

    @property
    def batch_size(self) -> int:
        return self.segmenter.BATCH_SIZE

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        segment = self.segmenter.load(device)

        def cut(batch: Batch) -> Rows:
            table = batch.inputs["boxes"]
            boxes = _per_image(table["box"])
            found = [segment(image, its) for image, its in zip(batch.images, boxes, strict=True)]
            columns = segment_columns(found, batch.sizes)
            columns |= {"source_box": whole(table["box"])}
            columns |= {name: whole(table[name]) for name in OF_THE_BOX}
            return Rows(columns, sum(len(its) > 0 for its in boxes))

        return cut


def _per_image(boxes: object) -> list[NDArray[np.float32]]:
    vectors, counts = ragged_vectors(boxes)
    return np.split(vectors, np.cumsum(counts)[:-1])
