"""A small convolutional network for small images, trained from scratch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from components.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

    from components.models.network import Network


@dataclass(frozen=True, kw_only=True)
class SmallCnn(Backbone):
    """Four 3x3 convolutions of strides 2, 2, 2, 1 with batch norm, `width` to 4 `width` channels.

    With width 16: 64 features, about 65 thousand parameters.
    """

    width: Annotated[int, Ge(1)] = 16

    def build(self, n_classes: int, image_size: int, seed: int) -> "Network":
        import torch

        from components.models.network import Network, load_trunk

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = Network(self._trunk(), 4 * self.width, n_classes, self.STATISTICS)
        load_trunk(network, self.checkpoint)
        return network

    def _trunk(self) -> "nn.Module":
        from torch import nn

        layers: list[nn.Module] = []
        before = 3
        for factor, stride in ((1, 2), (2, 2), (4, 2), (4, 1)):
            after = factor * self.width
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        return nn.Sequential(*layers)
