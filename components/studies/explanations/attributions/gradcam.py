"""GradCAM (Selvaraju et al., ICCV 2017), by the package grad-cam."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.studies.explanations.attribution import Attribution, Heatmaps, Images, Labels

if TYPE_CHECKING:
    from components.studies.explanations.explained_network import ExplainedNetwork


@dataclass(frozen=True, kw_only=True)
class Gradcam(Attribution):
    """The channels of the network's last map, each weighted by the mean gradient of the logit, rectified and
    scaled to [0, 1]. With a linear head on mean-pooled features it is the class activation map of Zhou et
    al. (2016)."""

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        from pytorch_grad_cam import GradCAM  # type: ignore[import-untyped]

        from components.studies.explanations.explained_network import activation_maps

        x = model.normalised(images).requires_grad_()  # else nothing has a gradient: parameters are frozen
        return activation_maps(GradCAM, model, [model.last_map], x, labels)
