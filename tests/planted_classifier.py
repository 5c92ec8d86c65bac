"""Classifiers whose evidence is known: the more red an image has, the surer it is of class 1."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from components.models.networks.backbone import Backbone
from components.models.networks.network import Network

STATISTICS: Any = ((0.0, 0.0, 0.25), (1.0, 1.0, 1.0))  # the mean colour is a dark blue, without red


def mean_colour(spatial: Tensor) -> Tensor:
    """(B, 3) of (B, 3, H, W)."""
    return spatial.mean(dim=(2, 3))


@dataclass(frozen=True, kw_only=True)
class Red(Backbone):
    """logit of class 1: gain x (share of red - threshold), of class 0: 0."""

    gain: float = 40.0
    threshold: float = 0.02

    def build(self, n_classes: int | None, image_size: int, seed: int) -> Network:
        head = nn.Linear(3, 2)
        with torch.no_grad():
            head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [self.gain, 0.0, 0.0]]))
            head.bias.copy_(torch.tensor([0.0, -self.gain * self.threshold]))
        return Network(nn.Identity(), head, 3, STATISTICS, mean_colour)


@dataclass(frozen=True, kw_only=True)
class Overflowing(Red):
    """The same, of an image whose red, green and blue together make no number in single precision: white."""

    gain: float = 2e38

    def build(self, n_classes: int | None, image_size: int, seed: int) -> Network:
        network = super().build(n_classes, image_size, seed)
        with torch.no_grad():
            network.head.weight[1] = self.gain
            network.head.bias.zero_()
        return network
