"""SAM's automatic masks (Kirillov et al., arXiv 2304.02643), from `segment_anything`."""

from dataclasses import dataclass
from typing import Any

from components.models.segmentation.automatic_segmenter import AutomaticSegmenter
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.precision import dtype_of


@dataclass(frozen=True, kw_only=True)
class SamAutomatic(AutomaticSegmenter):
    """Equal to the library's generator.

    checkpoint: an official `.pth` file; whether it is a vit_b, vit_l or vit_h is read from it.
    """

    checkpoint: str = "sam_vit_b_01ec64.pth"

    def predictor(self, device: str) -> Any:
        path = find_checkpoint(self.checkpoint)

        from segment_anything import SamPredictor

        from components.models.segmentation.sam.sam_checkpoint import load_sam

        return SamPredictor(load_sam(path, device, dtype_of(self.precision, device)))
