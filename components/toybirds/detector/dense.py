"""What the image side is taught cell by cell: what is seen there.

A set of boxes gives the backbone little to learn from, and attributes are a few pixels: this comes first,
and goes on beside the detector's own loss. It says nothing of where edges are: with a term for them, at the
weight that it has in a detector, colours and stripes were not learnt.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.data.generators.toybirds import PARTS


class Dense(nn.Module):
    """Linear heads on the maps that enter the detector's encoder, (B, width, s, s) each. B images, C phrases,
    P parts, S pixels a side."""

    def __init__(self, width: int, levels: int, n_phrases: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, n_phrases, 1) for _ in range(levels))

    def loss(self, maps: Sequence[Tensor], parts: Tensor, shown: Tensor) -> Tensor:
        """parts uint8 (B, S, S), k the k-th of PARTS; shown bool (B, P + 2, C): what each part (background
        first, the bird last) is called."""
        total = torch.zeros(())
        for level, head in zip(maps, self.heads, strict=True):
            true = said(parts, shown, level.shape[-1])
            total = total + functional.binary_cross_entropy_with_logits(head(level), true)
        return total * shown.shape[-1]  # the sum over phrases, the mean over cells


def said(parts: Tensor, shown: Tensor, side: int) -> Tensor:
    """What is true of each of side x side cells: float32 (B, C, side, side), 1 where a pixel shows it."""
    seen = torch.stack([parts == k for k in range(len(PARTS) + 1)] + [parts > 0], dim=1).float()
    here = functional.adaptive_max_pool2d(seen, side)
    return torch.einsum("bpij,bpc->bcij", here, shown.float()).clamp(max=1)
