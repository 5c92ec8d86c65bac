"""SAM 2 behind the interface of `segment_anything.SamPredictor`, for the generator of automatic masks."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import Sam2Model, Sam2Processor

from components.models.segmentation.sam.mask_logits import THRESHOLD


class Sam2Predictor:
    """What `SamAutomaticMaskGenerator` asks of its predictor. Coordinates are pixels of the image that is
    set: the processor scales them as it scales the image."""

    def __init__(self, model: Sam2Model, processor: Sam2Processor) -> None:
        self._sam2, self._processor = model, processor
        encoder = SimpleNamespace(img_size=processor.target_size)
        self.model = SimpleNamespace(mask_threshold=THRESHOLD, image_encoder=encoder)
        self.transform = SimpleNamespace(apply_coords=lambda points, size: points)
        self.device = model.device
        self.reset_image()

    def reset_image(self) -> None:
        """Forgets the image."""
        self._features: Any = None
        self._size = (0, 0)

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encodes the image (H, W, 3)."""
        told = self._processor(images=np.array(image), input_data_format="channels_last", return_tensors="pt")
        self._features = self._sam2.get_image_embeddings(told["pixel_values"].to(self.device))
        self._size = image.shape[:2]

    def predict_torch(
        self, points: Tensor, labels: Tensor, multimask_output: bool, return_logits: bool
    ) -> tuple[Tensor, Tensor, None]:
        """Logits (B, 3, H, W) and predicted IoU (B, 3) of points (B, 1, 2) with labels (B, 1)."""
        assert multimask_output
        assert return_logits
        prompts = self._processor(
            original_sizes=[self._size],
            input_points=[points.tolist()],
            input_labels=[labels.tolist()],
        ).to(self.device)
        output = self._sam2(
            image_embeddings=self._features,
            input_points=prompts["input_points"],
            input_labels=prompts["input_labels"],
        )
        logits = self._processor.post_process_masks(output.pred_masks, [self._size], binarize=False)[0]
        return logits, output.iou_scores[0].float(), None
