"""What an attribution is: it says how much each pixel speaks for a class, by the network's own account."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network
    from components.studies.explanations.explained_network import ExplainedNetwork

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Heatmaps = NDArray[np.float32]
Reduction = Literal["relu", "abs", "signed"]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Base of all attributions; one file each in this study's `attributions/`."""

    FOLDER: ClassVar[str] = "components.studies.explanations.attributions"

    def check(self, network: "Network") -> None:
        """Raises ValueError, in one line, for a network that it cannot explain."""

    def explain(self, network: "Network", images: Images, labels: Labels) -> Heatmaps:
        """Heatmaps float32 (B, S, S) of images uint8 (B, S, S, 3), on the network's device: larger is more
        evidence for the label's logit, or its probability where the attribution says so. What is 0
        everywhere says nothing. The network computes in float32, is in evaluation mode, and left as it was.

        Raises ValueError as `check` does, and where a heatmap is not finite.
        """
        import torch

        from components.studies.explanations.explained_network import ExplainedNetwork, frozen

        self.check(network)
        model = ExplainedNetwork(network)
        with torch.inference_mode(False), torch.enable_grad(), frozen(model):
            heatmaps = self._heatmaps(model, images, labels)
        if not np.isfinite(heatmaps).all():
            raise ValueError("a heatmap is not finite")
        return heatmaps

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        raise NotImplementedError


def reduced(relevance: "Tensor", reduction: Reduction) -> Heatmaps:
    """Relevance (B, 3, S, S) as heatmaps: the sum over the channels; of it the positive part, the absolute
    value, or all. Which is not given by the papers that compare heatmaps, and matters
    (docs/methods/explanations.md, "Signed maps")."""
    total = relevance.detach().sum(1)
    heatmaps = {"relu": total.clamp(min=0), "abs": total.abs(), "signed": total}[reduction]
    return heatmaps.float().cpu().numpy()
