"""AttnLRP, as CFT's paper says it uses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.models.relevance.relevance import Relevance, RelevanceOutput

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class AttnlrpExplicit(Relevance):
    """Epsilon rule with epsilon 0 for linear layers, identity rule for norms and GELU, and the relevance of
    attention's two products in equal parts to their factors, see `attnlrp`. Signed: what is negative speaks
    against the class. Without gamma rules, maps of transformers are noisy (Achtibat et al.)."""

    def check(self, network: "Network") -> None:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.attnlrp import check

        check(parts_of(network))

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        from components.models.networks.vit_parts import parts_of
        from components.models.relevance.attnlrp import attnlrp

        return attnlrp(parts_of(network), pixels, classes, attention_rule="uniform")
