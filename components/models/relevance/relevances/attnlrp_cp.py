"""AttnLRP, with the attention as a constant (CP-LRP)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class AttnlrpCp(Relevance):
    """The rules of `attnlrp_explicit`, but all relevance of an attention's output goes to its values, none to
    queries and keys. Without biases, the relevance of all tokens adds up to the logit."""

    def check(self, network: "Network") -> None:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.attnlrp import check

        check(parts_of(network))

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.attnlrp import attnlrp

        return attnlrp(parts_of(network), pixels, classes, attention_rule="constant")
