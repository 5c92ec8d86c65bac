"""RobustViT (Chefer et al., NeurIPS 2022): relevance is pulled onto the object by squared errors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from components.studies.guided_fine_tuning.fine_tuned import FineTuned
from components.studies.guided_fine_tuning.training_masks import MaskSource

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class RobustVit(FineTuned):
    """lambda_relevance, lambda_foreground, lambda_background: the loss on maps of the labels' classes, see
    `squared_alignment`; defaults of its code (docs/methods/guided_fine_tuning.md, "Knobs")."""

    masks: MaskSource = "object"
    lambda_relevance: Annotated[float, Ge(0)] = 0.8
    lambda_foreground: Annotated[float, Ge(0)] = 0.3
    lambda_background: Annotated[float, Ge(0)] = 2.0

    def guidance(
        self, network: "Network", pixels: "Tensor", masks: "Tensor", labels: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        from components.studies.guided_fine_tuning.losses import squared_alignment
        from components.studies.guided_fine_tuning.unit_maps import unit_maps

        raw, logits = self.relevance.maps(network, pixels, labels)
        maps = unit_maps(raw, pixels.shape[-1], self.signed)
        loss = squared_alignment(maps, masks, self.lambda_foreground, self.lambda_background)
        return self.lambda_relevance * loss, logits
