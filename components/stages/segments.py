"""Segments of every image, as a segmenter produces them: nothing is filtered here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from components.models.segmentation.segmenter import Segmenter
from components.stage import Batch, BatchMap, Rows, Tensors
from components.stages.base.segment_stage import SegmentStage, segment_columns


@dataclass(frozen=True, kw_only=True)
class Segments(SegmentStage):
    """Of a segmenter that looks at the image alone."""

    VERSION: ClassVar[int] = 2

    segmenter: Segmenter

    @property
    def batch_size(self) -> int:
        return self.segmenter.BATCH_SIZE

    @property
    def none_is_expected(self) -> bool:
        return self.segmenter.MAY_FIND_NONE

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        segment = self.segmenter.load(device)

        def cut(batch: Batch) -> Rows:
            pairs = zip(batch.images, batch.records, strict=True)
            found = [segment(image, record) for image, record in pairs]
            return Rows(segment_columns(found, batch.sizes), len(batch))

        return cut
