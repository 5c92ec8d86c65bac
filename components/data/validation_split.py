"""The validation split of data sets that come without one."""

import numpy as np

from components.identity import rng

VALIDATION_SHARE = 0.1  # of the training images


def with_validation_split(splits: np.ndarray) -> np.ndarray:
    """The splits, text (n,) of SPLITS; where none is "val", a fixed tenth of the training images, one at
    least, is. Without training images they are as given."""
    train = np.flatnonzero(splits == "train")
    if (splits == "val").any() or len(train) == 0:
        return splits
    count = max(1, int(len(train) * VALIDATION_SHARE))
    chosen = splits.copy()
    chosen[rng(0, "validation split").choice(train, count, replace=False)] = "val"
    return chosen
