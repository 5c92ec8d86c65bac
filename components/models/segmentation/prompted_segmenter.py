"""Segmenters that are told what to look for: boxes of concepts, and a mask of each box."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from components.models.segmentation.box_segmenter import BoxSegmenter
from components.models.segmentation.detector import Detector
from components.models.segmentation.segmenter import Segmenter, SegmentImage


@dataclass(frozen=True, kw_only=True)
class PromptedSegmenter(Segmenter):
    """k_top_stored: concepts, of those that CLIP ranks first in an image, whose boxes are stored; a bag's
    `k_top` is at most this."""

    detector: Detector
    box_segmenter: BoxSegmenter
    k_top_stored: Annotated[int, Ge(1)] = 15

    def check(self, k_top: int, box_threshold: float) -> None:
        """ValueError where a method asks for boxes that are not stored."""
        if k_top > self.k_top_stored:
            raise ValueError(f"k_top = {k_top} is more than segmenter.k_top_stored = {self.k_top_stored}")
        self.detector.check_threshold(box_threshold)

    def load(self, device: str) -> SegmentImage:
        """Never: it looks at concepts too, so it is two stages (`components.studies.segment_source`)."""
        raise TypeError(f"{type(self).__name__} segments by concepts, not by the image alone")
