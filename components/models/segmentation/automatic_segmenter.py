"""Automatic masks (Kirillov et al., arXiv 2304.02643, appendix B): SAM asked at every point of a grid."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Found, Segmenter, SegmentImage
from components.models.weights.precision import Precision
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class AutomaticSegmenter(Segmenter):
    """Masks as `segment_anything.SamAutomaticMaskGenerator` filters them with these parameters of its own;
    they overlap, need not cover the image, and may be none. Three masks are tried per point.

    precision: of image encoder and mask decoder; prompts, upscaling and thresholds are float32.
    points_per_side: of the image; points_per_batch: in one pass of the mask decoder, bounds its memory.
    pred_iou_thresh, stability_score_thresh: least scores; box_nms_thresh: of two masks whose boxes overlap
    more, the one with the lower predicted IoU goes; crop_n_layers: layer i cuts the image into 4^i
    overlapping crops, each with a pass of the encoder and a grid of its own; min_mask_region_area: in pixels
    of the image itself, smaller holes are filled and smaller islands removed.
    """

    BATCH_SIZE: ClassVar[int] = 8

    precision: Precision = "auto"
    points_per_side: Annotated[int, Ge(1)] = 32
    points_per_batch: Annotated[int, Ge(1)] = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_nms_thresh: Annotated[float, Ge(0)] = 0.7
    crop_n_layers: Annotated[int, Ge(0)] = 0
    min_mask_region_area: Annotated[int, Ge(0)] = 0

    def predictor(self, device: str) -> Any:
        """A `segment_anything.SamPredictor`, or what answers as one, with its model in memory."""
        raise NotImplementedError

    def load(self, device: str) -> SegmentImage:
        """MissingWeights and WrongWeights where the checkpoint is not there or of another model."""
        predictor = self.predictor(device)

        from segment_anything import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(
            predictor.model,
            points_per_side=self.points_per_side,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            box_nms_thresh=self.box_nms_thresh,
            crop_n_layers=self.crop_n_layers,
            min_mask_region_area=self.min_mask_region_area,
            output_mode="coco_rle",
        )
        generator.predictor = predictor

        def segment(image: NDArray[np.uint8], record: ImageRecord) -> Found:
            found = [mask for mask in generator.generate(image) if mask["area"] > 0]
            return Found(
                [mask["segmentation"]["counts"].encode() for mask in found],
                np.array([mask["predicted_iou"] for mask in found], np.float32),
                np.array([mask["stability_score"] for mask in found], np.float32),
            )

        return segment
