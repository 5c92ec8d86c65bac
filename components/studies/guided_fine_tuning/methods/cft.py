"""CFT, concept-guided fine-tuning (arXiv 2603.08309): relevance is pulled into the masks of concepts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from components.studies.guided_fine_tuning.fine_tuned import FineTuned

if TYPE_CHECKING:
    from torch import Tensor

    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Cft(FineTuned):
    """lambda_align, lambda_concept, lambda_nc, region_norm: the loss on maps of the labels' classes, see
    `concept_alignment`; the paper divides by regions, the code, whose weights these are, by the image
    (docs/methods/guided_fine_tuning.md, eqs. 16-18);
    loss_resolution: of the image, as in the code, or of its patches, as in the paper: a patch is in the mask
    if half of it is.
    """

    lambda_align: Annotated[float, Ge(0)] = 0.8
    lambda_concept: Annotated[float, Ge(0)] = 0.5
    lambda_nc: Annotated[float, Ge(0)] = 1.2
    region_norm: bool = False
    loss_resolution: Literal["image", "patch"] = "image"

    def guidance(
        self, network: "Network", pixels: "Tensor", masks: "Tensor", labels: "Tensor"
    ) -> tuple["Tensor", "Tensor"]:
        from components.studies.guided_fine_tuning.losses import concept_alignment, on_patches
        from components.studies.guided_fine_tuning.unit_maps import unit_maps

        raw, logits = self.relevance.maps(network, pixels, labels)
        patches = self.loss_resolution == "patch"
        maps = unit_maps(raw, None if patches else pixels.shape[-1], self.signed)
        masks = on_patches(masks, maps.shape[-1]) if patches else masks
        loss = concept_alignment(maps, masks, self.lambda_concept, self.lambda_nc, self.region_norm)
        return self.lambda_align * loss, logits
