"""What a segment stage says of its whole column."""

import numpy as np
import pyarrow as pa
import pytest

from components.models.segmentation.segmenter import Found
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.models.segmentation.segmenters.slic import Slic
from components.pixels import masks
from components.stages.base.finds import MOST_EMPTY, finds
from components.stages.base.segment_stage import TINY, segment_columns
from components.stages.segments import Segments
from tests.world import column


def test_segments_per_image_and_the_share_of_tiny_ones(tmp_path):
    sizes = [(100, 50), (40, 100), (30, 30)]
    areas = [(3000, 4, 6), (3, 4), ()]  # of 5000 and 4000 pixels: 4 and 3 are below a thousandth
    cut = []
    for (height, width), per_image in zip(sizes, areas, strict=True):
        drawn = np.arange(height * width) < np.array(per_image, int)[:, None]
        cut.append(Found(masks.encode(drawn.reshape(-1, height, width)) if per_image else []))
    table = pa.table({"image_id": [3, 1, 2], **segment_columns(cut, sizes)})
    found = Segments(segmenter=Slic()).describe(column(tmp_path / "some", [table]))
    assert TINY == 0.001
    assert found.numbers == {
        "segments_per_image": 5 / 3, "segments_most": 3, "none_share": 1 / 3, "tiny_share": 2 / 5,
    }  # fmt: skip
    assert found.text == "1.7 segments an image (most 3), none in 33% of the images, 40% of them tiny"
    assert found.warning == "no segments in 33% of the images"
    nothing = pa.table({"image_id": [3], **segment_columns(cut[2:], sizes[2:])})
    empty = Segments(segmenter=Slic()).describe(column(tmp_path / "none", [nothing]))
    assert empty.numbers == {"segments_per_image": 0, "segments_most": 0, "none_share": 1, "tiny_share": 0}
    assert empty.warning == "no segments in 100% of the images"
    masks_of_a_few = Segments(segmenter=ObjectMask()).describe(column(tmp_path / "none", [nothing]))
    assert masks_of_a_few.numbers["none_share"] == 1
    assert not masks_of_a_few.warning, "an image without an object's mask is as it should be"


@pytest.mark.parametrize(("none", "warns"), [(1, False), (2, True)])
def test_a_search_that_finds_nothing_in_more_than_a_tenth_of_the_images_warns(none, warns):
    assert MOST_EMPTY == 0.1
    counts = np.array([0] * none + [1] + [3] * (9 - none))
    found = finds("boxes", counts)
    assert found.numbers == {
        "boxes_per_image": counts.mean(), "boxes_most": 3, "none_share": none / 10,
    }  # fmt: skip
    assert bool(found.warning) == warns
