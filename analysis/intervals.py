"""95 % intervals over seeds, as in the views: of a mean, and of paired differences."""

import math
import re

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

FRACTIONS = re.compile("accuracy|_iou|_precision|_f1")
Interval = tuple[float | None, float | None]


def t_interval(values: "pd.Series[float]") -> Interval:
    """Student's interval of the mean; (None, None) for fewer than two values."""
    if len(values) < 2:
        return None, None
    mean, half = float(values.mean()), _half(values)
    return mean - half, mean + half


def interval_of_mean(values: "pd.Series[float]", metric: str) -> Interval:
    """Student's interval of the mean. Of a fraction between 0 and 1, as an accuracy, it is made on the scale
    of log odds by the delta method, and stays between 0 and 1."""
    low, high = t_interval(values)
    if low is None or high is None or not FRACTIONS.search(metric):
        return low, high
    mean, half = float(values.mean()), _half(values)
    if half >= 26 * mean * (1 - mean):  # all are 0 or 1, or it is no fraction: see the view student_t
        return low, high
    shrink = float(np.exp(-half / (mean * (1 - mean))))
    return mean * shrink / (mean * shrink + 1 - mean), mean / (mean + (1 - mean) * shrink)


def interval_of_difference(gains: "pd.Series[float]", metric: str) -> Interval:
    """Student's interval of the mean of paired differences, cut at -1 and 1 for fractions."""
    low, high = t_interval(gains)
    if low is None or high is None or not FRACTIONS.search(metric):
        return low, high
    return max(low, -1.0), min(high, 1.0)


def _half(values: "pd.Series[float]") -> float:
    return (
        float(student_t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    )
