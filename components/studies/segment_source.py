"""Which stages a segmenter's segments come from."""

from components.models.segmentation.prompted_segmenter import PromptedSegmenter
from components.models.segmentation.segmenter import Segmenter
from components.stages.base.segment_stage import SegmentStage
from components.stages.box_segments import BoxSegments
from components.stages.boxes import Boxes
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from components.stages.segments import Segments


def segments_of(segmenter: Segmenter, images: ClipImages, texts: ClipTexts) -> SegmentStage:
    """The stage that writes the segments. images, texts: by which a prompted segmenter chooses concepts."""
    if not isinstance(segmenter, PromptedSegmenter):
        return Segments(segmenter=segmenter)
    boxes = Boxes(
        detector=segmenter.detector, images=images, texts=texts, k_top_stored=segmenter.k_top_stored
    )
    return BoxSegments(boxes=boxes, segmenter=segmenter.box_segmenter)
