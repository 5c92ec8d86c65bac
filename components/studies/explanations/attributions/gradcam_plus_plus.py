"""GradCAM++ (Chattopadhay et al., WACV 2018), by the package grad-cam."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.studies.explanations.attribution import Attribution, Heatmaps, Images, Labels

if TYPE_CHECKING:
    from components.studies.explanations.explained_network import ExplainedNetwork


@dataclass(frozen=True, kw_only=True)
class GradcamPlusPlus(Attribution):
    """As GradCAM, but a channel's weight is a sum over its cells of the positive gradients, weighted by the
    paper's equation 19; scaled to [0, 1]."""

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        from pytorch_grad_cam import GradCAMPlusPlus  # type: ignore[import-untyped]

        from components.studies.explanations.explained_network import activation_maps

        x = model.normalised(images).requires_grad_()  # else nothing has a gradient: parameters are frozen
        return activation_maps(GradCAMPlusPlus, model, [model.last_map], x, labels)
