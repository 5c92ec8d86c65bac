"""SAM 2 (Ravi et al., arXiv 2408.00714) prompted with boxes, from transformers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.box_segmenter import BoxSegmenter, SegmentBoxes
from components.models.segmentation.segmenter import Found
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.precision import Precision, dtype_of

BOXES_AT_ONCE = 64  # in one pass of the mask decoder: more boxes take more passes, never more memory


@dataclass(frozen=True, kw_only=True)
class Sam2(BoxSegmenter):
    """One mask per box (the decoder's single-mask output), equal to `Sam2Model`'s with its `Sam2Processor`.

    checkpoint: a folder that `save_pretrained` wrote, model and processor; that of a video model serves, what
    only videos need is left out. precision: of image encoder and mask decoder; prompts, upscaling and
    threshold are float32.
    """

    checkpoint: str = "facebook/sam2.1-hiera-large"
    precision: Precision = "auto"

    def load(self, device: str) -> SegmentBoxes:
        """MissingWeights and WrongWeights where the folder is not there or not of a SAM 2."""
        folder = find_checkpoint(self.checkpoint)

        import torch

        from components.models.segmentation.sam.mask_logits import segments_of_logits
        from components.models.segmentation.sam.sam2_checkpoint import load_sam2

        model, processor = load_sam2(folder, device, dtype_of(self.precision, device))

        @torch.inference_mode()
        def segment(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Found:
            size = image.shape[:2]
            if len(boxes) == 0:
                return Found([], np.zeros(0, np.float32), np.zeros(0, np.float32))
            told = processor(
                images=np.array(image),  # torch warns of arrays that cannot be written
                input_data_format="channels_last",  # or it guesses, and wrongly for images 1 or 3 pixels high
                input_boxes=[boxes.tolist()],
                return_tensors="pt",
            ).to(device)
            features = model.get_image_embeddings(told["pixel_values"])
            decoded = [
                model(image_embeddings=features, input_boxes=part, multimask_output=False)
                for part in told["input_boxes"].split(BOXES_AT_ONCE, dim=1)
            ]
            logits = torch.cat([part.pred_masks[0] for part in decoded])
            ious = torch.cat([part.iou_scores[0, :, 0] for part in decoded])

            def upscale(part: torch.Tensor) -> torch.Tensor:
                return processor.post_process_masks([part], [size], binarize=False)[0]

            return segments_of_logits(logits, ious, size, upscale)

        return segment
