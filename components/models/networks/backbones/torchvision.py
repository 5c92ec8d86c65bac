"""Architectures of torchvision, with weights from a local file."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from components.models.networks.backbone import Backbone
from components.models.networks.statistics import IMAGENET
from components.models.weights.checkpoints import find_checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Torchvision(Backbone):
    """A torchvision classifier: convolutional, or a vision transformer.

    architecture: a name of `torchvision.models`, such as resnet50 or vit_b_16;
    checkpoint: its state dict of 1000 classes, in safetensors or as torchvision publishes it; a transformer
    takes images of the size that it was trained on.

    SqueezeNet has no layer after its last average pooling. With its own head, all that follows its trunk is
    the pooling, its features are its logits, and the head does nothing; with a new head, its features are
    the mean of the trunk's map.
    """

    architecture: str = "resnet50"

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        import torch
        from torch import nn

        from components.models.networks.network import Network, taken_apart
        from components.models.weights.loading import read_checkpoint, set_state

        path = None if self.checkpoint is None else find_checkpoint(self.checkpoint)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _model(self.architecture, image_size)
            if path is not None:
                set_state(model, _renamed(read_checkpoint(path), model), path)
            network = taken_apart(model, _parts, image_size, self.architecture)
            if n_classes is None:
                return network
            if isinstance(network.head, nn.Identity):
                width = next(x.in_channels for x in network.pool if isinstance(x, nn.Conv2d))  # type: ignore[attr-defined]
                return Network(network.trunk, nn.Linear(width, n_classes), width, IMAGENET)
            network.head = nn.Linear(network.width, n_classes)
            return network


def _model(architecture: str, image_size: int) -> "nn.Module":
    from torchvision import models

    known = models.list_models(module=models)  # those of other modules fetch weights of their backbones
    if architecture not in known:
        near = get_close_matches(architecture, known)
        raise ValueError(f"torchvision has no classifier {architecture!r}; closest: {near}")
    options = {"image_size": image_size} if architecture.startswith("vit_") else {}
    return models.get_model(architecture, weights=None, **options)


def _renamed(state: dict[str, "Tensor"], model: "nn.Module") -> dict[str, "Tensor"]:
    """The state with today's names. Old published files call DenseNet's layers `norm.1` and have no
    `num_batches_tracked`, which torch fills in too."""
    counts = {name: x for name, x in model.state_dict().items() if name.endswith("num_batches_tracked")}
    return counts | {re.sub(r"(denselayer\d+\.\w+)\.(\d)\.", r"\1\2.", name): x for name, x in state.items()}


def _parts(model: Any) -> "Network":
    """Cuts a model where its pooling begins, and before its last layer if that is linear."""
    from torch import nn
    from torchvision.models import DenseNet, VisionTransformer

    from components.models.networks.network import Network
    from components.models.networks.trunks import FirstToken, TorchvisionVitTrunk

    if isinstance(model, VisionTransformer):
        *before, head = model.heads
        tokens = TorchvisionVitTrunk(model.conv_proj, model.class_token, model.encoder)
        pool = nn.Sequential(FirstToken(), *before)
        return Network(tokens, head, head.in_features, IMAGENET, pool, prefix_tokens=1, has_class_token=True)
    layers = list(model.children())
    if isinstance(layers[-1], nn.Sequential):
        layers[-1:] = layers[-1]
    if isinstance(model, DenseNet):
        layers.insert(1, nn.ReLU())  # a function in its forward
    cut = next(
        i for i, x in enumerate(layers) if isinstance(x, nn.AdaptiveAvgPool2d | nn.Dropout | nn.Linear)
    )
    body, rest = layers[:cut], layers[cut:]
    head = rest.pop() if isinstance(rest[-1], nn.Linear) else nn.Identity()
    width = head.in_features if isinstance(head, nn.Linear) else model.num_classes
    trunk = body[0] if len(body) == 1 else nn.Sequential(*body)
    return Network(trunk, head, width, IMAGENET, nn.Sequential(*_with_pooling(rest)))


def _with_pooling(layers: list["nn.Module"]) -> list["nn.Module"]:
    """Inserts the pooling and the flattening that a model does by functions in its forward."""
    from torch import nn

    where = [i for i, layer in enumerate(layers) if isinstance(layer, nn.AdaptiveAvgPool2d)]
    if not where:
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers]
    if not any(isinstance(layer, nn.Flatten) for layer in layers):
        layers.insert(where[0] + 1, nn.Flatten())
    return layers
