"""The data set's own masks: the oracle among the segmenters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.mask_files import IGNORE, read_mask, read_parts
from components.models.segmentation.segmenter import Segmenter
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class GroundTruth(Segmenter):
    """The object mask and, where the card has them, one mask per part; and what is left, the
    background. The object's mask overlaps its parts'; pixels that count nowhere are in none.

    An image without a mask file raises FileNotFoundError, so it becomes a failure row.
    """

    background: bool = True

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        if record.mask is None:
            raise FileNotFoundError("the data set's card names no masks")
        truth = _fitting(read_mask(record.mask, record.mask_values), image)
        found = [truth == 1]
        if record.part_mask is not None:
            parts = _fitting(read_parts(record.part_mask), image)
            found += [parts == part for part in np.unique(parts[(parts > 0) & (parts != IGNORE)])]
        if self.background:
            found.append(truth == 0)
        masks = np.stack(found)
        return masks[masks.any(axis=(1, 2))]


def _fitting(mask: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask {mask.shape} does not fit image {image.shape[:2]}")
    return mask
