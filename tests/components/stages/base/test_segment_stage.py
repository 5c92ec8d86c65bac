"""What a segment stage says of its whole column."""

import numpy as np
import pyarrow as pa

from components.models.segmentation.segmenter import Found
from components.models.segmentation.segmenters.slic import Slic
from components.pixels import masks
from components.stages.base.segment_stage import TINY, segment_columns
from components.stages.segments import Segments
from tests.world import column


def test_segments_per_image_and_the_share_of_tiny_ones(tmp_path):
    sizes = [(100, 50), (40, 100), (30, 30)]
    areas = [(3000, 4, 6), (3, 4), ()]  # of 5000 and 4000 pixels: 4 and 3 are below a thousandth
    found = []
    for (height, width), per_image in zip(sizes, areas, strict=True):
        drawn = np.arange(height * width) < np.array(per_image, int)[:, None]
        found.append(Found(masks.encode(drawn.reshape(-1, height, width)) if per_image else []))
    table = pa.table({"image_id": [3, 1, 2], **segment_columns(found, sizes)})
    facts = Segments(segmenter=Slic()).describe(column(tmp_path / "some", [table]))
    assert TINY == 0.001
    assert facts == {"segments_per_image": 5 / 3, "segments_most": 3, "tiny_share": 2 / 5}
    nothing = pa.table({"image_id": [3], **segment_columns(found[2:], sizes[2:])})
    empty = Segments(segmenter=Slic()).describe(column(tmp_path / "none", [nothing]))
    assert empty == {"segments_per_image": 0, "segments_most": 0, "tiny_share": 0}
