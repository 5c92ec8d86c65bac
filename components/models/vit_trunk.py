"""timm's vision transformer as a trunk that returns a map."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class VitTrunk(nn.Module):
    """Pixels (B, 3, H, H) to the normalised patch tokens in their grid: (B, D, h, h)."""

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(
            img_size=image_size, patch_size=patch_size, embed_dim=width, depth=depth, num_heads=heads,
            num_classes=0, class_token=False, global_pool="avg", fc_norm=False,
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.vit.forward_features(pixels)
        side = int(tokens.shape[1] ** 0.5)
        return torch.unflatten(tokens.transpose(1, 2), 2, (side, side))
