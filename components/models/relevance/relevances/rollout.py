"""Attention rollout (Abnar & Zuidema, ACL 2020)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Rollout(Relevance):
    """Where the tokens that the head reads have looked, see `attention_rollout`: the same for every class."""

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.gradient_rollout import attention_rollout

        return attention_rollout(parts_of(network), pixels)
