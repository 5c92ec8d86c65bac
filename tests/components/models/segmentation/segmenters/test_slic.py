import numpy as np

from components.data.images import decode
from components.models.segmentation.segmenters.slic import Slic
from components.stage import ImageRecord


def test_photographs_have_about_as_many_segments_as_asked_for(test_data):
    paths = sorted(test_data("waterpets").glob("*.jpg"))[::80]
    counts = [len(Slic().segment(decode(path), ImageRecord(0, path))) for path in paths]
    assert 15 <= np.median(counts) <= 30
    assert min(counts) >= 8
