"""A network as attribution libraries take it. B images, S pixels a side, D channels, C classes, h w cells."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from components.models.networks.network import Network, mean_pool, to_pixels

PASSES_AT_ONCE = 64  # bounds the memory of attributions that need many passes for one image


class ExplainedNetwork(nn.Module):
    """Normalised pixels (B, 3, S, S), float32 as the network's statistics are, to logits (B, C), by the
    network's own parts. Its pooling is a module where the network's is the function `mean_pool`, so that LRP
    has a rule for it."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("std", network.std, persistent=False)
        self.trunk = network.trunk
        self.pool: Any = network.pool
        if network.pool is mean_pool:
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = network.head
        self.grid = network.grid
        self.has_tokens = network.prefix_tokens is not None

    def normalised(self, images: NDArray[np.uint8]) -> Tensor:
        """Images uint8 (B, S, S, 3) as the trunk takes them, on the network's device."""
        pixels = to_pixels(images, str(self.mean.device)).to(self.mean.dtype)
        return (pixels / 255 - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.trunk(x)))
        return logits

    @property
    def last_map(self) -> nn.Module:
        """The last module that gives a map (B, D, h, w), or tokens that `grid` makes one of, on which the
        logits depend cell by cell: the trunk itself, or the norm before a transformer's last attention, since
        after it the patches no longer reach a class token.

        Raises ValueError for a transformer without such a norm.
        """
        if not self.has_tokens:
            return self.trunk
        norms = [x for name, x in self.trunk.named_modules() if name.endswith(("norm1", "ln_1"))]
        if not norms:
            raise ValueError(
                "no class activation map: this transformer has no norm before its last attention"
            )
        return norms[-1]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the parameters, until it ends."""
    trained = [x for x in model.parameters() if x.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def activation_maps(
    kind: type, model: ExplainedNetwork, layers: list[nn.Module], x: Tensor, labels: Iterable[int]
) -> NDArray[np.float32]:
    """What a class of the package grad-cam makes of these layers' maps, or without them of those that it
    chooses, for normalised pixels x (B, 3, S, S): float32 (B, S, S) in [0, 1], bilinear from the cells, each
    heatmap scaled to its own range; 0 where it is constant."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # type: ignore[import-untyped]

    cam = kind(model, layers, reshape_transform=model.grid if layers else None)
    try:
        return cam(x, [ClassifierOutputTarget(int(label)) for label in labels])
    finally:
        cam.activations_and_grads.release()
