"""Layer-wise relevance propagation (Bach et al., PLoS ONE 2015), by zennit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.models.attribution import Attribution, Heatmaps, Images, Labels, Reduction, reduced

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.explained_network import ExplainedNetwork
    from components.models.network import Network

Composite = Literal["epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"]


@dataclass(frozen=True, kw_only=True)
class Lrp(Attribution):
    """The logit, handed back layer by layer to the pixels; what the biases keep of it is lost.

    composite: which rule for which layers, by zennit's names: epsilon for linear layers, and for convolutions
    z-plus, alpha-2-beta-1 or gamma; for the first layer flat, flat or the box of all colours;
    reduction: of the channels, see `reduced`.

    For chains of convolutions, and torchvision's VGG, SqueezeNet and ResNet, whose batch norms are merged
    into the convolutions before them meanwhile.
    """

    composite: Composite = "epsilon_plus_flat"
    reduction: Reduction = "relu"

    def check(self, network: "Network") -> None:
        from torch import nn
        from torchvision.models.resnet import BasicBlock, Bottleneck
        from torchvision.models.squeezenet import Fire

        from components.models.explained_network import ExplainedNetwork

        layers = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
        known = {*layers, nn.Flatten, nn.Dropout, nn.Identity, nn.Sequential, BasicBlock, Bottleneck, Fire}
        found = {type(module) for module in ExplainedNetwork(network).modules()} - {ExplainedNetwork}
        if found - known:
            names = ", ".join(sorted(kind.__name__ for kind in found - known))
            raise ValueError(f"lrp has no rule for {names}: it explains VGG, SqueezeNet, ResNet and the like")

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        return reduced(self.relevance(model, model.normalised(images), labels), self.reduction)

    def relevance(self, model: "ExplainedNetwork", x: "Tensor", labels: Labels) -> "Tensor":
        """Of normalised pixels x (B, 3, S, S), in their shape."""
        import torch
        from torch.nn.functional import one_hot
        from zennit.attribution import Gradient  # type: ignore[import-untyped]
        from zennit.composites import COMPOSITES  # type: ignore[import-untyped]
        from zennit.torchvision import ResNetCanonizer  # type: ignore[import-untyped]

        box: dict[str, Any] = {}
        if self.composite == "epsilon_gamma_box":
            black = (0 - model.mean) / model.std
            white = (1 - model.mean) / model.std
            box = {"low": black.expand_as(x), "high": white.expand_as(x)}
        composite = COMPOSITES[self.composite](**box, canonizers=[ResNetCanonizer()])
        classes = torch.from_numpy(labels).to(x.device)
        _, relevance = Gradient(model, composite)(
            x, lambda logits: logits * one_hot(classes, logits.shape[1])
        )
        return relevance
