"""GAE with the derivative of its gradients."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class GaeSecondOrder(Relevance):
    """The map of `gae`, whose gradients of the logit depend on the parameters: so nearly all are trained, at
    about twice the time and memory."""

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.gradient_rollout import gradient_rollout

        return gradient_rollout(parts_of(network), pixels, classes, differentiable=True)
