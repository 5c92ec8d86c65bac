from pathlib import Path

import numpy as np

from components.models.segmentation.segmenters.whole_image import WholeImage
from components.stage import ImageRecord


def test_every_pixel_is_in_the_one_segment():
    masks = WholeImage().segment(np.zeros((5, 8, 3), np.uint8), ImageRecord(0, Path("none")))
    assert masks.shape == (1, 5, 8)
    assert masks.all()
