"""The ResNet-20 of CIFAR-10 (He et al. 2016, 4.2, shortcuts without weights), with trained weights."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.models.networks.network import Network
from components.models.networks.statistics import IMAGENET


class Block(nn.Module):
    """Two convolutions and the shortcut, which skips pixels and pads channels where these change."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stride, self.missing = width // channels, width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        half = self.missing // 2
        shortcut = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return (y + shortcut).relu()


def resnet20(file: Path) -> Network:
    """For images of 32 pixels, ready on the CPU."""
    state = load_file(file)
    trunk, channels = nn.Sequential(), 16
    trunk.add_module("conv1", nn.Conv2d(3, 16, 3, 1, 1, bias=False))
    trunk.add_module("bn1", nn.BatchNorm2d(16))
    trunk.add_module("relu", nn.ReLU())
    for place, width in enumerate((16, 32, 64), start=1):
        widths = (channels, width, width)
        trunk.add_module(f"layer{place}", nn.Sequential(*(Block(before, width) for before in widths)))
        channels = width
    head = nn.Linear(64, 10)
    head.load_state_dict({name: state.pop(f"linear.{name}") for name in ("weight", "bias")})
    counts = {k: x for k, x in trunk.state_dict().items() if k.endswith("num_batches_tracked")}
    trunk.load_state_dict(state | counts)
    return Network(trunk, head, 64, IMAGENET).ready("cpu", torch.float32)
