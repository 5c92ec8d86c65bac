"""The one form in which backbones are used. B images, D features, C classes, h w the trunk's grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.checkpoints import find_checkpoint
from components.models.backbone import Statistics
from components.models.loading import read_checkpoint


class Network(nn.Module):
    """trunk: pixels -> map (B, D, h, w); features: its mean over the grid; head: linear to C logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, width: int, n_classes: int, statistics: Statistics) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, n_classes)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def spatial(self, pixels: Tensor) -> Tensor:
        """Feature map (B, D, h, w) of pixels uint8 (B, 3, H, W)."""
        x: Tensor = self.trunk((pixels.float() / 255 - self.mean) / self.std)
        return x

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features (B, D)."""
        return self.spatial(pixels).mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.features(pixels))
        return logits


def to_pixels(images: NDArray[np.uint8], device: str) -> Tensor:
    """uint8 (B, H, W, 3) as uint8 (B, 3, H, W) on the device, channels last in memory."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2)


def load_tensors(network: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Sets all parameters and buffers; RuntimeError names what is missing or does not fit."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})


def dump_tensors(network: nn.Module) -> dict[str, NDArray[Any]]:
    """All persistent parameters and buffers as arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def load_trunk(network: Network, checkpoint: str | None) -> None:
    """Sets the trunk to that of a classifier's state (`trunk.*`), where a checkpoint is given.

    Raises MissingWeights, or RuntimeError if it does not fit.
    """
    if checkpoint is not None:
        state = read_checkpoint(find_checkpoint(checkpoint))
        prefix = "trunk."
        trunk = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        network.trunk.load_state_dict(trunk)
