"""Configurations that no other beats in several numbers."""

import numpy as np
from numpy.typing import NDArray


def unbeaten(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of rows of numbers, the more the better: whether no other row is as good in all and better in one."""
    as_good = (numbers[:, None] >= numbers[None]).all(axis=2)  # row i against row j
    better = (numbers[:, None] > numbers[None]).any(axis=2)
    beaten: NDArray[np.bool_] = np.any(as_good & better, axis=0)
    return ~beaten
