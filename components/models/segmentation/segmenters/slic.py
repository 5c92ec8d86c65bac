"""SLIC superpixels (Achanta et al. 2012), from scikit-image."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from skimage.segmentation import slic

from components.models.segmentation.segmenter import Segmenter, masks_of
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class Slic(Segmenter):
    """Compact superpixels that cover the image; disjoint.

    n_segments: about how many; compactness: weight of place against colour (CIELAB); sigma: blur before, in
    pixels of the image itself: without it the grain of photographs leaves far fewer segments, at times one.
    """

    n_segments: Annotated[int, Ge(1)] = 25
    compactness: Annotated[float, Gt(0)] = 10.0
    sigma: Annotated[float, Ge(0)] = 1.0

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        labels = slic(image, n_segments=self.n_segments, compactness=self.compactness, sigma=self.sigma)
        return masks_of(labels)
