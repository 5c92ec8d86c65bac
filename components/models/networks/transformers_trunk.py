"""The transformers of the library transformers as trunks. B images, T tokens, D features."""

from typing import Any

import torch
from torch import Tensor, nn


class TransformersTrunk(nn.Module):
    """Pixels (B, 3, H, H) to the normalised tokens (B, T, D): class token, registers, patches.

    model: ViTModel, Dinov2Model or Dinov2WithRegistersModel.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.model(pixels).last_hidden_state
        return tokens


class ClassTokenAndMean(nn.Module):
    """Tokens (B, T, D) to the class token and the mean of the patches side by side, (B, 2 D)."""

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, 0], tokens[:, self.prefix_tokens :].mean(dim=1)], dim=1)


class Logits(nn.Module):
    """A classifier of the library, giving its logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels).logits
        return logits
