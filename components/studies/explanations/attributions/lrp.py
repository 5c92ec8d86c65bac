"""Layer-wise relevance propagation (Bach et al., PLoS ONE 2015), by zennit; of transformers, AttnLRP."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from components.studies.explanations.attribution import (
    Attribution,
    Heatmaps,
    Images,
    Labels,
    Reduction,
    reduced,
)

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network
    from components.studies.explanations.explained_network import ExplainedNetwork

Composite = Literal["epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"]


@dataclass(frozen=True, kw_only=True)
class Lrp(Attribution):
    """The logit, handed back layer by layer to the pixels; what the biases keep of it is lost.

    composite: which rule for which layers, by zennit's names: epsilon for linear layers, and for convolutions
    z-plus, alpha-2-beta-1 or gamma; for the first layer flat, flat or the box of all colours;
    reduction: of the channels, see `reduced`.

    For chains of convolutions, and torchvision's VGG, SqueezeNet and ResNet, whose batch norms are merged
    into the convolutions before them meanwhile. And for the vision transformers of `vit_parts`: AttnLRP as in
    `attnlrp_explicit`, without a composite; the relevance of patches is reduced, and bilinear between them.
    """

    composite: Composite = "epsilon_plus_flat"
    reduction: Reduction = "relu"

    def check(self, network: "Network") -> None:
        unknown = _without_rule(network)
        if not unknown:
            return
        from components.models.relevance.relevances.attnlrp_explicit import AttnlrpExplicit

        try:
            AttnlrpExplicit().check(network)
        except ValueError as error:
            names = ", ".join(unknown)
            raise ValueError(
                f"lrp has no rule for {names}: it explains VGG, SqueezeNet, ResNet and the like; and {error}"
            ) from None

    def explain(self, network: "Network", images: Images, labels: Labels) -> Heatmaps:
        if not _without_rule(network):
            return super().explain(network, images, labels)
        self.check(network)
        heatmaps = self._of_patches(network, images, labels)
        if not np.isfinite(heatmaps).all():
            raise ValueError("a heatmap is not finite")
        return heatmaps

    def _of_patches(self, network: "Network", images: Images, labels: Labels) -> Heatmaps:
        import torch
        from torch.nn.functional import interpolate

        from components.models.networks.network import to_pixels
        from components.models.relevance.relevances.attnlrp_explicit import AttnlrpExplicit
        from components.studies.explanations.explained_network import frozen

        device = str(network.mean.device)
        with torch.inference_mode(False), frozen(network):
            classes = torch.from_numpy(labels).to(device)
            raw = AttnlrpExplicit().maps(network, to_pixels(images, device), classes).raw
        patches = torch.from_numpy(reduced(raw[:, None], self.reduction))
        return interpolate(patches[:, None], images.shape[1:3], mode="bilinear")[:, 0].numpy()

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


def _without_rule(network: "Network") -> list[str]:
    """The kinds of layers that no rule of the composites is for."""
    from torch import nn
    from torchvision.models.resnet import BasicBlock, Bottleneck
    from torchvision.models.squeezenet import Fire

    from components.studies.explanations.explained_network import ExplainedNetwork

    layers = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    known = {*layers, nn.Flatten, nn.Dropout, nn.Identity, nn.Sequential, BasicBlock, Bottleneck, Fire}
    found = {type(module) for module in ExplainedNetwork(network).modules()} - {ExplainedNetwork}
    return sorted(kind.__name__ for kind in found - known)
