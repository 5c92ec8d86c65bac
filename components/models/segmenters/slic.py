"""SLIC superpixels (Achanta et al. 2012), from scikit-image."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from skimage.segmentation import slic

from components.models.segmenter import Segmenter, masks_of
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class Slic(Segmenter):
    """Compact superpixels that cover the image; disjoint.

    n_segments: about how many; compactness: weight of place against colour (CIELAB).
    """

    n_segments: Annotated[int, Ge(1)] = 25
    compactness: Annotated[float, Gt(0)] = 10.0

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        return masks_of(slic(image, n_segments=self.n_segments, compactness=self.compactness))
