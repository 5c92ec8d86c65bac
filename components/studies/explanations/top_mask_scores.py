"""Whether the mask that a method ranks first covers what the data set has masks of: the object, its parts."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.method import Metric
from components.pixels.crops import stored_masks

IMAGES_AT_ONCE = 64
SEGMENT_FIELDS = ("height", "width", "counts")
OBJECT = "object"


def top_mask_metrics(
    data: Data, split: str, ids: Ids, top_mask: NDArray[np.int64], suffix: str = ""
) -> list[Metric]:
    """`top_mask_coverage`: the share of a part's pixels that the first mask covers, the mean over the images
    that show the part and have masks at all. Group: the card's parts, and OBJECT for the whole of it.

    data["segments"]: the masks; top_mask: the first one's position in each image (n,), below 0 without.
    """
    shares: dict[str, list[float]] = {}
    ids, top_mask = ids[top_mask >= 0], top_mask[top_mask >= 0]
    for part in blocks(len(ids), IMAGES_AT_ONCE):
        segments = data["segments"].read(ids[part], SEGMENT_FIELDS)
        rows = zip(data.rows(ids[part]), top_mask[part], strict=True)
        for row, (place, top) in enumerate(rows):
            covered = stored_masks(segments, row)[top]
            for name, shown in _shown(data, int(place)):
                shares.setdefault(name, []).append(float(covered[shown].mean()))
    return [
        Metric(f"top_mask_coverage{suffix}", float(np.mean(values)), split, group)
        for group, values in shares.items()
    ]


def _shown(data: Data, row: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What the image in this row of the index shows, with its pixels (H, W)."""
    whole, parts = data.object_mask(row), data.part_mask(row)
    if whole is not None and (whole == 1).any():
        yield OBJECT, whole == 1
    if parts is None:
        return
    for value, name in enumerate(data.card.parts, start=1):
        if (parts == value).any():
            yield name, parts == value
