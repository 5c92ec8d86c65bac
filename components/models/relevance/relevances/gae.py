"""Gradient times attention, rolled out: what CFT's and RobustViT's code runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Gae(Relevance):
    """GAE of Chefer et al. (ICCV 2021), see `gradient_rollout`; its gradients of the logit are constants.
    Never negative.

    So the map trains the queries and keys of every block and all of the blocks before the last; the last
    block's values, projection and MLP, the last norm and the head get exactly nothing of it.
    """

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.gradient_rollout import gradient_rollout

        return gradient_rollout(parts_of(network), pixels, classes, differentiable=False)
