"""LIME (Ribeiro et al., KDD 2016), by the package lime."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from components.pixels.places import FRAME
from components.studies.explanations.attribution import Attribution, Heatmaps, Images, Labels

if TYPE_CHECKING:
    from components.studies.explanations.explained_network import ExplainedNetwork

NOISE = 1e-7  # a weight that float32 probabilities cannot tell from 0
HideColor = Literal["mean", "black"]


@dataclass(frozen=True, kw_only=True)
class Lime(Attribution):
    """Superpixels, each painted with its weight, positive or negative, in a linear model of the class's
    probability, which is fitted on images with some of them hidden.

    n_samples: such images; each superpixel is hidden in half of them;
    hide_color: what hides a superpixel: its own mean colour, or black;
    kernel_size, max_dist, ratio: of quickshift, which cuts the image: the first two in pixels of a 224 frame
    (a kernel is at least 1 pixel of the image), ratio the weight of colour against place;
    seed: of the images; each image explained has the same stream, whatever its batch.
    """

    n_samples: Annotated[int, Ge(2)] = 1000
    hide_color: HideColor = "mean"
    kernel_size: Annotated[float, Gt(0)] = 4.0
    max_dist: Annotated[float, Gt(0)] = 200.0
    ratio: Annotated[float, Ge(0), Le(1)] = 0.2
    seed: int = 0

    def superpixels(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Label map (S, S) from 0 on, of an image (S, S, 3)."""
        from skimage.segmentation import quickshift

        scale = len(image) / FRAME
        kernel_size = max(1.0, self.kernel_size * scale)  # quickshift takes none below 1
        return quickshift(image, self.ratio, kernel_size, self.max_dist * scale)

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        return np.stack([self._heatmap(model, *one) for one in zip(images, labels, strict=True)])

    def _heatmap(
        self, model: "ExplainedNetwork", image: NDArray[np.uint8], label: int
    ) -> NDArray[np.float32]:
        import torch
        from lime import lime_image  # type: ignore[import-untyped]

        from components.studies.explanations.explained_network import PASSES_AT_ONCE

        def probability(masked: Images) -> NDArray[np.float32]:
            with torch.no_grad():
                return model(model.normalised(masked)).softmax(1)[:, [label]].cpu().numpy()

        lime_image.tqdm = iter  # no progress bar for every image
        explanation = lime_image.LimeImageExplainer(random_state=self.seed).explain_instance(
            image,
            probability,
            labels=(0,),
            hide_color=None if self.hide_color == "mean" else 0,
            top_labels=None,
            num_samples=self.n_samples,
            batch_size=PASSES_AT_ONCE,
            segmentation_fn=self.superpixels,
        )
        weights = np.zeros(explanation.segments.max() + 1, np.float32)
        for segment, weight in explanation.local_exp[0]:
            weights[segment] = weight if abs(weight) > NOISE else 0
        return weights[explanation.segments]
