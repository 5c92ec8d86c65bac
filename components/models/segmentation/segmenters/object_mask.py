"""The data set's mask of the object alone, for what compares with it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from components.data.mask_files import IGNORE, MaskValues, read_mask
from components.models.segmentation.segmenter import Segmenter
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class ObjectMask(Segmenter):
    """One segment, the object, and where the card names values that count nowhere, their pixels as a second.
    None for an image without a mask, or whose mask is empty, cannot be read or has another size: unlike with
    `ground_truth`, such an image is no failure, so it is lost to nothing else that a trial measures. `plan`
    and `doctor` name such masks.
    """

    MAY_FIND_NONE: ClassVar[bool] = True

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        none = np.zeros((0, *image.shape[:2]), dtype=bool)
        if record.mask is None:
            return none
        try:
            mask = read_mask(record.mask, record.mask_values)
        except (OSError, ValueError):
            return none
        if mask.shape != image.shape[:2] or not (mask == 1).any():
            return none
        carded = isinstance(record.mask_values, MaskValues)
        found = np.stack([mask == 1, mask == IGNORE] if carded else [mask == 1])
        return found[found.any(axis=(1, 2))]
