"""What the 95 % interval of the mean of fractions must be: Student's on the scale of log odds, by SciPy."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit
from scipy.stats import sem, t


def fraction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the interval; the log odds of the mean have the error of the mean by the delta method."""
    mean = float(np.mean(values))
    low, high = t.interval(0.95, len(values) - 1, logit(mean), sem(values) / (mean * (1 - mean)))
    return float(expit(low)), float(expit(high))
