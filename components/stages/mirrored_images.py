"""A backbone's features of whole images, mirrored: for a head that is trained on either side."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from components.pixels.frames import Frame, framed
from components.stage import Preparation
from components.stages.backbone_images import BackboneImages


@dataclass(frozen=True, kw_only=True)
class MirroredImages(BackboneImages):
    """As `backbone_images`, left and right exchanged."""

    def preparation(self) -> Preparation:
        return partial(_mirrored, size=self.image_size, frame=self.frame)


def _mirrored(image: NDArray[np.uint8], size: int, frame: Frame) -> NDArray[np.uint8]:
    return framed(image, size, frame)[:, ::-1]
