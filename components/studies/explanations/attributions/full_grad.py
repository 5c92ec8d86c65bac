"""FullGrad (Srinivas and Fleuret, NeurIPS 2019), by the package grad-cam."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.studies.explanations.attribution import Attribution, Heatmaps, Images, Labels

if TYPE_CHECKING:
    from components.studies.explanations.explained_network import ExplainedNetwork


@dataclass(frozen=True, kw_only=True)
class FullGrad(Attribution):
    """Input times gradient and bias times gradient of every layer, as absolute values, each channel of a
    layer scaled to [0, 1] before they are added up, and so the sum.

    For lack of signs it shows what matters to the logit, for it or against it, and hardly differs between
    classes. Biases are those of convolutions and of batch norms (in effect); of a transformer that is the
    projection of its patches alone.
    """

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        import numpy as np
        from pytorch_grad_cam import FullGrad as Package  # type: ignore[import-untyped]

        from components.studies.explanations.explained_network import activation_maps

        maps = [  # the package brings all channels of all layers to the image's size: one image at a time
            activation_maps(Package, model, [], x[None], [label])
            for x, label in zip(model.normalised(images), labels, strict=True)
        ]
        return np.concatenate(maps)
