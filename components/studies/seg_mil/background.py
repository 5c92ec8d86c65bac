"""How much of each segment is background: what the regulariser of SEG-MIL-CBM keeps attention away from."""

import numpy as np
import torch
from torch import Tensor

from components.data.columns import Data
from components.data.images import DataError
from components.pixels.bags import Bags
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.objects import object_overlap


def background_shares(method: SegMilKnobs, data: Data, bags: Bags) -> Tensor:
    """float32 (n, N) in [0, 1], zero where invalid.

    `background: concepts`: 1 where the segment's concept is on the background list, else 0, also for a bag
    that is the whole image; `masks`: the share of the segment outside the object's true mask, 0 where an
    image has none. DataError if no image has one.
    """
    if method.background == "masks":
        overlap = object_overlap(data, bags)
        if not overlap.known.any():
            raise DataError("background: masks: no training image has a mask of its object")
        outside = (1 - overlap.on_object) * (bags.valid & overlap.known[:, None])
        return torch.from_numpy(outside.astype(np.float32))
    names = data.card.vocabulary(method.vocabulary)
    listed = [names.index(name) for name in data.card.vocabulary(method.background_vocabulary)]
    return torch.from_numpy((np.isin(bags.concepts, listed) & bags.valid).astype(np.float32))
