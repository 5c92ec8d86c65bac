"""The data set's mask of the object alone, for what compares with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.models.segmentation.segmenter import Segmenter
from components.models.segmentation.segmenters.ground_truth import GroundTruth
from components.stage import ImageRecord


@dataclass(frozen=True, kw_only=True)
class ObjectMask(Segmenter):
    """One segment, the object; none for an image without a mask file, or whose mask is empty: unlike with
    `ground_truth`, such an image is no failure, so it is lost to nothing else that a trial measures.

    ValueError for a mask of another size than the image.
    """

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        if record.mask is None or not record.mask.is_file():
            return np.zeros((0, *image.shape[:2]), dtype=bool)
        alone = ImageRecord(record.image_id, record.path, record.mask)
        return GroundTruth(background=False).segment(image, alone)
