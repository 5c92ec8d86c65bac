"""What a segmenter is: it cuts one image into segments, each a candidate instance of a bag."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from components.pixels import masks
from components.stage import ImageRecord

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """S segments of one image: COCO run lengths, and, from models that say so, float32 (S,) each: the IoU
    with the true mask that the model predicts, and how little the mask changes with its threshold."""

    counts: list[bytes]
    predicted_iou: Floats | None = None
    stability: Floats | None = None


SegmentImage = Callable[[NDArray[np.uint8], ImageRecord], Found]


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Base of all segmenters; one file each in `components/models/segmentation/segmenters/`.

    One without a model defines `segment`, one with a model `load`. MAY_FIND_NONE: whether images without a
    segment are as they should be, so that many of them are nothing to warn of.
    """

    FOLDER: ClassVar[str] = "components.models.segmentation.segmenters"
    BATCH_SIZE: ClassVar[int] = 64  # images a replica gets at once
    MAY_FIND_NONE: ClassVar[bool] = False

    def load(self, device: str) -> SegmentImage:
        """The function of an image uint8 (H, W, 3) with its model in memory, on `device`.

        S may be 0. The label is never read.
        """

        def cut(image: NDArray[np.uint8], record: ImageRecord) -> Found:
            found = self.segment(image, record)
            return Found(masks.encode(found) if len(found) else [])

        return cut

    def segment(self, image: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.bool_]:
        """Masks bool (S, H, W), each with at least one pixel, of the image uint8 (H, W, 3).

        The masks may overlap where the segmenter says so.
        """
        raise NotImplementedError


def masks_of(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """One mask per value of a label map (H, W), in ascending order of the value: (S, H, W)."""
    return labels[None] == np.unique(labels)[:, None, None]
