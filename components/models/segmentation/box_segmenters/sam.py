"""SAM (Kirillov et al., arXiv 2304.02643) prompted with boxes, from `segment_anything`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.box_segmenter import BoxSegmenter, SegmentBoxes
from components.models.segmentation.segmenter import Found
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.precision import Precision, dtype_of

BOXES_AT_ONCE = 64  # in one pass of the mask decoder: more boxes take more passes, never more memory


@dataclass(frozen=True, kw_only=True)
class Sam(BoxSegmenter):
    """One mask per box (the decoder's single-mask output), equal to `SamPredictor`'s.

    checkpoint: an official `.pth` file; whether it is a vit_b, vit_l or vit_h is read from it.
    precision: of image encoder and mask decoder; prompts, upscaling and threshold are float32.
    """

    checkpoint: str = "sam_vit_b_01ec64.pth"
    precision: Precision = "auto"

    def load(self, device: str) -> SegmentBoxes:
        """MissingWeights and WrongWeights where the file is not there or not of a SAM."""
        path = find_checkpoint(self.checkpoint)

        import torch
        from segment_anything import SamPredictor

        from components.models.segmentation.sam.mask_logits import segments_of_logits
        from components.models.segmentation.sam.sam_checkpoint import load_sam

        sam = load_sam(path, device, dtype_of(self.precision, device))
        predictor = SamPredictor(sam)

        @torch.inference_mode()
        def segment(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Found:
            size = image.shape[:2]
            if len(boxes) == 0:
                return Found([], np.zeros(0, np.float32), np.zeros(0, np.float32))
            predictor.set_image(image)
            prompts = predictor.transform.apply_boxes_torch(torch.tensor(boxes, device=device), size)
            decoded = [decode(part) for part in prompts.split(BOXES_AT_ONCE)]
            logits, ious = (torch.cat(parts) for parts in zip(*decoded, strict=True))

            def upscale(part: torch.Tensor) -> torch.Tensor:
                return sam.postprocess_masks(part, predictor.input_size, size)

            return segments_of_logits(logits, ious[:, 0], size, upscale)

        def decode(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
            return sam.mask_decoder(
                image_embeddings=predictor.features,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )

        return segment
