"""Trunks that are more than a chain of layers. B images, T tokens, D features, h w their grid."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class VitTrunk(nn.Module):
    """A small transformer: pixels (B, 3, H, H) to the normalised patch tokens in their grid, (B, D, h, h)."""

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


class TorchvisionVitTrunk(nn.Module):
    """Pixels (B, 3, H, H) to the normalised tokens (B, T, D) of torchvision's transformer, class token first.

    conv_proj, class_token, encoder: the transformer's own.
    """

    def __init__(self, conv_proj: nn.Module, class_token: nn.Parameter, encoder: nn.Module) -> None:
        super().__init__()
        self.conv_proj = conv_proj
        self.class_token = class_token
        self.encoder = encoder

    def embed(self, pixels: Tensor) -> Tensor:
        """The tokens (B, T, D) that enter the encoder, which adds their positions."""
        patches = self.conv_proj(pixels).flatten(2).transpose(1, 2)
        token = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.encoder(self.embed(pixels))
        return tokens


class FirstToken(nn.Module):
    """Tokens (B, T, D) to the class token (B, D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class TimmTrunk(nn.Module):
    """Pixels to what a timm model without its classifier makes of them before its pooling: a map
    (B, D, h, w), channels first whatever the model's own order, or tokens (B, T, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.channels_last = str(getattr(model, "output_fmt", "")) == "NHWC"

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.model.forward_features(pixels)
        return x.permute(0, 3, 1, 2) if self.channels_last else x

    def pool(self, encoded: Tensor) -> Tensor:
        """The model's own pooling, and what it has between that and its classifier: (B, F)."""
        x: Tensor = self.model.forward_head(encoded.permute(0, 2, 3, 1) if self.channels_last else encoded)
        return x
