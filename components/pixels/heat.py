"""One map of an image's evidence, of rankings of both forms: pixel by pixel, or mask by mask.

S pixels of the square frame; larger is more evidence.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from components.pixels.framed_segments import framed_segments
from components.pixels.frames import Frame, frame_box
from components.stage import Size

Heat = NDArray[np.float32]


def heat_of(ranking: pa.Table, segments: pa.Table | None, row: int, size: int, frame: Frame) -> Heat:
    """The map (S, S) of one row: of the stage `heatmaps`; or of `mask_values` and the segments that it
    values, each pixel the sum of the values of the masks that it lies in, 0 where it lies in none."""
    if "heatmap" in ranking.column_names:
        return stored_heat(ranking, row, size)
    assert segments is not None
    masks = framed_segments(segments, row, size, frame)[ranking["masks"][row].as_py()]
    values = np.array(ranking["values"][row].as_py(), np.float32)
    return np.tensordot(values, masks.astype(np.float32), axes=1)


def stored_heat(heatmaps: pa.Table, row: int, size: int) -> Heat:
    """The map (S, S) of one row of the stage `heatmaps`."""
    flat = heatmaps["heatmap"][row].values.to_numpy(zero_copy_only=False)
    return flat.astype(np.float32).reshape(size, size)


def unframed(heat: NDArray[np.floating], size: Size, frame: Frame) -> Heat:
    """A map (S, S) of the frame as one of the image (H, W); beside the frame it has its least value."""
    left, top, right, bottom = (round(edge) for edge in frame_box(*size, len(heat), frame))
    whole = np.full(size, heat.min(), np.float32)
    resized = Image.fromarray(heat.astype(np.float32)).resize((right - left, bottom - top))
    whole[top:bottom, left:right] = np.asarray(resized)
    return whole
