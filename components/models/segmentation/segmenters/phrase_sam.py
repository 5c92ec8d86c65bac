"""A detector's boxes of phrases that are the same for every image, and a mask of each box."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, MinLen
from numpy.typing import NDArray

from components.models.segmentation.box_segmenter import BoxSegmenter
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detector import Detector, Question
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.segmenter import Found, Segmenter, SegmentImage
from components.pixels import masks
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class PhraseSam(Segmenter):
    """Grounded masks for methods that know no concepts, such as explanations: unlike `grounded_sam` it asks
    for all `phrases`, and no CLIP chooses among them.

    Of each phrase the `boxes_per_phrase` best scored boxes of at least `box_threshold` become masks, in the
    order of the phrases; masks may overlap, and empty ones are left out.
    """

    BATCH_SIZE = 8

    phrases: Annotated[tuple[str, ...], MinLen(1)]
    detector: Detector = GroundingDino()
    box_segmenter: BoxSegmenter = Sam()
    box_threshold: Annotated[float, Gt(0), Le(1)] = 0.25
    boxes_per_phrase: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        self.detector.check_threshold(self.box_threshold)

    def load(self, device: str) -> SegmentImage:
        detect, segment = self.detector.load(device), self.box_segmenter.load(device)

        def cut(image: NDArray[np.uint8], record: ImageRecord) -> Found:
            (found,) = detect([Question(image, self.phrases)]).detections
            good = found.scores >= self.box_threshold
            for phrase in range(len(self.phrases)):
                good[np.flatnonzero(good & (found.concepts == phrase))[self.boxes_per_phrase :]] = False
            cuts = segment(image, found.boxes[good])
            some = masks.areas(cuts.counts, *image.shape[:2]) > 0
            counts = [runs for runs, has in zip(cuts.counts, some, strict=True) if has]
            scores = (None if of is None else of[some] for of in (cuts.predicted_iou, cuts.stability))
            return Found(counts, *scores)

        return cut
