"""What a mask and its predicted IoU are told. H W: pixels of a mask; leading dimensions are any."""

import torch
from torch import Tensor
from torch.nn import functional

AREA = 256  # pixels: where masks are smaller, Dice decides, which an empty mask does not please


def mask_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Cross-entropy per pixel of the true mask, and Dice: (...) of logits and true masks (..., H, W)."""
    area = true.sum((-2, -1))
    cross = functional.binary_cross_entropy_with_logits(logits, true, reduction="none").sum((-2, -1))
    shown = logits.sigmoid()
    dice = 1 - (2 * (shown * true).sum((-2, -1)) + 1) / (shown.sum((-2, -1)) + area + 1)
    return cross / (area + AREA) + dice


@torch.no_grad()
def true_iou(logits: Tensor, true: Tensor) -> Tensor:
    """IoU (...) of the masks that logits (..., H, W) give with true masks, float of 0 and 1, (..., H, W)."""
    mask = (logits > 0).float()
    both = (mask * true).sum((-2, -1))
    return both / (mask.sum((-2, -1)) + true.sum((-2, -1)) - both).clamp(min=1)
