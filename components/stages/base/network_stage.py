"""What all stages that pass images through a network have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from components.models.networks.backbone import Backbone
from components.pixels.frames import Frame, framed
from components.stage import ColumnStage, Preparation, Tensors
from components.stages.classifier import Classifier, load_network, load_target

if TYPE_CHECKING:
    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class FramedNetwork:
    """A network, and the square in which it sees an image.

    classifier: whose weights it has; None: the backbone's checkpoint's own;
    image_size, frame: the square that images become, its side in pixels.
    """

    backbone: Backbone
    classifier: Classifier | None
    image_size: int
    frame: Frame = "squash"


@dataclass(frozen=True, kw_only=True)
class NetworkStage(ColumnStage, FramedNetwork):
    """Base of the stages that read images as their network sees them. A stage of a `FramedNetwork` is made by
    `Stage(**vars(network), …)`: its fields are the stage's own, and so is their part of its identity."""

    def preparation(self) -> Preparation | None:
        return partial(framed, size=self.image_size, frame=self.frame)

    def network(self, tensors: Mapping[str, Tensors], device: str) -> "Network":
        """The network that makes features, see `load_network`."""
        return load_network(self.backbone, self.classifier, tensors, self.image_size, device)

    def target(self, tensors: Mapping[str, Tensors], device: str) -> "Network":
        """The network whose decisions are explained, see `load_target`."""
        return load_target(self.backbone, self.classifier, tensors, self.image_size, device)
