"""What a segmenter is: it cuts one image into segments, each a candidate instance of a bag."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Base of all segmenters; one file each in `components/models/segmenters/`."""

    FOLDER: ClassVar[str] = "components.models.segmenters"

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        """Masks bool (S, H, W), each with at least one pixel, of the image uint8 (H, W, 3).

        S may be 0. The masks may overlap where the segmenter says so. The label is never read.
        """
        raise NotImplementedError


def masks_of(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """One mask per value of a label map (H, W), in ascending order of the value: (S, H, W)."""
    return labels[None] == np.unique(labels)[:, None, None]
