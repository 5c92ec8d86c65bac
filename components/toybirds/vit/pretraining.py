"""What the small transformer is taught: what a bird and its background are, and where its parts are."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.data.generators.toybirds import PARTS
from components.models.networks.network import Network


class Pretraining(nn.Module):
    """A network with a head for phrases, read off the pooled features, and one for parts, off each patch."""

    def __init__(self, network: Network, n_phrases: int) -> None:
        super().__init__()
        self.network = network
        self.phrases = nn.Linear(network.width, n_phrases)
        self.parts = nn.Linear(network.width, len(PARTS))

    def loss(self, pixels: Tensor, parts: Tensor, phrases: Tensor, classes: Tensor) -> Tensor:
        """pixels uint8 (B, 3, S, S); parts uint8 (B, S, S); phrases float32 (B, P) of 0 and 1; classes int64
        (B,)."""
        patches = self.network.spatial(pixels)
        features = patches.mean(dim=(2, 3))
        side = pixels.shape[-1] // patches.shape[-1]
        shown = torch.stack([parts == i for i in range(1, len(PARTS) + 1)], dim=1).float()
        where = self.parts(patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        binary = functional.binary_cross_entropy_with_logits
        return (
            functional.cross_entropy(self.network.head(features), classes)
            + binary(self.phrases(features), phrases)
            + binary(where, functional.max_pool2d(shown, side))
        )
