"""GradCAM (Selvaraju et al., ICCV 2017) with its derivative."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class GradCam(Relevance):
    """The channels of the trunk's map, each weighted by the mean gradient of the class's logit, rectified. Of
    a trunk with tokens, the patches after the norm before the last attention: later ones do not reach a class
    token.

    For convolutional networks, ConvNeXt among them, it stands in for what CFT's paper names without saying
    how it is computed, feature maps combined with LRP's scores (docs/methods/guided_fine_tuning.md, eq. 13).
    """

    def check(self, network: "Network") -> None:
        if network.prefix_tokens is not None:
            super().check(network)

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.gradient_rollout import class_gradients

        if network.prefix_tokens is None:
            cells = network._encode(pixels)
            if not cells.requires_grad:
                cells.requires_grad_()
            logits = network.head(network.pool(cells).to(network.mean.dtype))
            (gradient,) = class_gradients(logits, classes, [cells], differentiable=True)
            raw = (cells * gradient.mean((2, 3), keepdim=True)).sum(1)
        else:
            vit = parts_of(network)
            done = vit(pixels)
            logits, tokens = done.logits, done.blocks[-1].normed
            (gradient,) = class_gradients(logits, classes, [tokens], differentiable=True)
            weights = gradient[:, vit.prefix_tokens :].mean(1, keepdim=True)
            raw = vit.on_grid((tokens * weights).sum(-1))
        return RelevanceOutput(raw.clamp(min=0).to(logits.dtype), logits)
