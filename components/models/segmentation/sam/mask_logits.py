"""From a mask decoder's logits to stored segments. S masks, h w pixels of the decoder, H W of the image."""

from collections.abc import Callable

import torch
from segment_anything.utils.amg import calculate_stability_score
from torch import Tensor

from components.models.segmentation.segmenter import Found
from components.pixels import masks
from components.stage import Size

PIXELS_AT_ONCE = 2**25  # of upscaled masks: bounds memory, some 0.5 GB, whatever the image and its boxes
THRESHOLD, OFFSET = 0.0, 1.0  # of logits: of the mask, and by which its stability is tried (SAM's own)


def segments_of_logits(
    logits: Tensor, ious: Tensor, size: Size, upscale: Callable[[Tensor], Tensor]
) -> Found:
    """Masks of logits float32 (S, 1, h, w), S > 0, with predicted IoU float32 (S,), a few at a time.

    upscale: logits (s, 1, h, w) to (s, 1, H, W). stability: IoU of the masks at the threshold plus and minus
    OFFSET, 0 where both are empty (segment_anything's score, which is NaN there).
    """
    height, width = logits.shape[-2:]
    square = 16 * height * width  # SAM upscales to its own square first, four times the side
    at_once = max(1, PIXELS_AT_ONCE // max(size[0] * size[1], square))
    counts: list[bytes] = []
    stability: list[Tensor] = []
    for part in logits.split(at_once):
        upscaled = upscale(part)[:, 0]
        stability.append(calculate_stability_score(upscaled, THRESHOLD, OFFSET))
        counts += masks.encode((upscaled > THRESHOLD).cpu().numpy())
    scores = torch.cat(stability).nan_to_num(0).cpu().numpy()
    return Found(counts, ious.cpu().numpy(), scores)
