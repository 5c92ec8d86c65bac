"""What a relevance map is: it says how much each patch speaks for a class, and can be trained through."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


class RelevanceOutput(NamedTuple):
    """Both in the graph, from one forward pass."""

    raw: "Tensor"
    """Raw relevance map (B, g, g), float32 at least, on the trunk's grid of patches or cells."""
    logits: "Tensor"
    """(B, C)."""


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Base of all relevance maps; one file each in `components/models/relevance/relevances/`.

    Attributions say the same to people, in pixels; relevance maps are functions of the parameters, whose
    gradients are what concept-guided fine-tuning needs.
    """

    FOLDER: ClassVar[str] = "components.models.relevance.relevances"

    def check(self, network: "Network") -> None:
        """Raises ValueError, in one line, for a network that it has no map of."""
        from components.models.networks.vit_parts import parts_of

        parts_of(network)

    def maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        """Of pixels (B, 3, H, H) in 0..255 for classes int64 (B,). The network is left as it was, and is
        computed as in evaluation mode: without dropout and stochastic depth. There is a graph even where
        gradients are disabled, as a map may itself be a gradient: detach what needs none.

        Raises ValueError as `check` does.
        """
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            return self._maps(network, pixels, classes)

    def _maps(self, network: "Network", pixels: "Tensor", classes: "Tensor") -> RelevanceOutput:
        raise NotImplementedError
