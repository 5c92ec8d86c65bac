"""A small convolutional network for small images, trained from scratch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from components.models.networks.backbone import Backbone
from components.models.networks.statistics import CENTRED

if TYPE_CHECKING:
    from torch import nn

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class SmallCnn(Backbone):
    """Six 3x3 convolutions with batch norm, of width, width, 2 width, 2 width, 4 width, 4 width channels;
    the first has stride 2, and maximum pooling by 2 follows the second and the fourth. With width 16: 64
    features, 72 thousand parameters."""

    width: Annotated[int, Ge(1)] = 16

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        import torch

        from components.models.networks.network import from_classifier

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return from_classifier(self._trunk(), 4 * self.width, n_classes, CENTRED, self.checkpoint)

    def _trunk(self) -> "nn.Module":
        from torch import nn

        layers: list[nn.Module] = []
        before = 3
        for factor, stride, pools in (
            (1, 2, False),
            (1, 1, True),
            (2, 1, False),
            (2, 1, True),
            (4, 1, False),
            (4, 1, False),
        ):
            after = factor * self.width
            layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)] if pools else [nn.ReLU()]
            before = after
        return nn.Sequential(*layers)
