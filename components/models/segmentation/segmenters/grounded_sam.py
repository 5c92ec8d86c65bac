"""Grounded SAM: GroundingDINO's boxes of concepts, SAM's mask of each box (docs/methods/seg_mil.md)."""

from dataclasses import dataclass

from components.models.segmentation.box_segmenter import BoxSegmenter
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detector import Detector
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.prompted_segmenter import PromptedSegmenter


@dataclass(frozen=True, kw_only=True)
class GroundedSam(PromptedSegmenter):
    """The proposals of SEG-MIL-CBM's paper. Masks overlap, and several may have one concept."""

    detector: Detector = GroundingDino()
    box_segmenter: BoxSegmenter = Sam()
