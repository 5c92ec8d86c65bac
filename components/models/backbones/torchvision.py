"""Architectures of torchvision, with weights from a local file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from components.checkpoints import find_checkpoint
from components.models.backbone import IMAGENET, Backbone, Statistics

if TYPE_CHECKING:
    from torch import nn

    from components.models.network import Network


@dataclass(frozen=True, kw_only=True)
class Torchvision(Backbone):
    """A torchvision classifier whose `features` (or everything before its pooling) is the trunk.

    architecture: a name of `torchvision.models`, such as squeezenet1_0 or resnet50;
    checkpoint: its state dict, in safetensors or as torchvision publishes it.
    """

    STATISTICS: ClassVar[Statistics] = IMAGENET

    architecture: str = "resnet50"

    def build(self, n_classes: int, image_size: int, seed: int) -> "Network":
        import torch
        from torchvision.models import get_model

        from components.models.loading import read_checkpoint
        from components.models.network import Network

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = get_model(self.architecture, weights=None)
            if self.checkpoint is not None:
                model.load_state_dict(read_checkpoint(find_checkpoint(self.checkpoint)))
            trunk = _trunk(model)
            with torch.inference_mode():
                width = trunk.eval()(torch.zeros(1, 3, image_size, image_size)).shape[1]
            return Network(trunk, width, n_classes, self.STATISTICS)


def _trunk(model: "nn.Module") -> "nn.Module":
    from torch import nn

    features = getattr(model, "features", None)
    if features is not None:
        return features
    if hasattr(model, "avgpool"):  # the ResNet family: everything before the pooling, in order
        names = [name for name, _ in model.named_children()]
        return nn.Sequential(*list(model.children())[: names.index("avgpool")])
    raise ValueError(f"{type(model).__name__} has no convolutional trunk that this backbone knows")
