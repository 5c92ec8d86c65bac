"""SAM 2's automatic masks (Ravi et al., arXiv 2408.00714): SAM's way, the model from transformers."""

from dataclasses import dataclass
from typing import Any

from components.models.segmentation.automatic_segmenter import AutomaticSegmenter
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.precision import dtype_of


@dataclass(frozen=True, kw_only=True)
class Sam2Automatic(AutomaticSegmenter):
    """For square images equal to transformers' mask-generation pipeline, which leaves a part of all others
    without points: it places them as if the image had been resized with its aspect kept.

    checkpoint: a folder that `save_pretrained` wrote, model and processor, of images or of videos.
    pred_iou_thresh: its default is that of SAM 2's authors.
    """

    checkpoint: str = "facebook/sam2.1-hiera-large"
    pred_iou_thresh: float = 0.8

    def predictor(self, device: str) -> Any:
        folder = find_checkpoint(self.checkpoint)

        from components.models.segmentation.sam.sam2_checkpoint import load_sam2
        from components.models.segmentation.sam.sam2_predictor import Sam2Predictor

        return Sam2Predictor(*load_sam2(folder, device, dtype_of(self.precision, device)))
