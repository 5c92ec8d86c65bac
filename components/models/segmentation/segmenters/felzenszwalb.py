"""Graph-based segments (Felzenszwalb and Huttenlocher 2004), from scikit-image."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from components.models.segmentation.segmenter import Segmenter, masks_of
from components.pixels.masks import in_image_pixels
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class Felzenszwalb(Segmenter):
    """Segments of even colour that cover the image; disjoint.

    scale: larger gives larger segments; sigma: blur before, in pixels of the image itself;
    min_size: pixels of a 224 x 224 frame, smaller segments join a neighbour.
    """

    scale: Annotated[float, Gt(0)] = 400.0
    sigma: Annotated[float, Ge(0)] = 0.5
    min_size: Annotated[float, Ge(0)] = 250.0

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        height, width = image.shape[:2]
        min_size = max(1, round(in_image_pixels(self.min_size, height, width, "224")))
        labels = felzenszwalb(image, scale=self.scale, sigma=self.sigma, min_size=min_size)
        return masks_of(labels)
