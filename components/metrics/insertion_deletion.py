"""Area under the curve of what a classifier still sees while an image is put in, or taken away, step by step.

A curve has n + 1 values for n steps: the probability of the explained class, first before any step, then
after each. Insertion starts with nothing and deletion with the whole image, of probability p0. The published
numbers differ in the axis above all (docs/methods/explanations.md, "Insertion and deletion"), so the rule is
part of every metric's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """axis: `count`, each step is 1/n wide; `area`, as wide as the share of the image's pixels that it
    changes, so that the curve may end before 1;
    anchors: `none`, the curve begins after the first step; `start`, before it; `both`, and it is led on to
    1, where all pixels are changed, be they in a mask or not;
    clip_norm: probabilities are min(p, p0) / p0.
    """

    axis: Literal["count", "area"]
    anchors: Literal["none", "start", "both"]
    clip_norm: bool


# eac_official: of EAC's code (its deletion, of those who followed it); eac_repro: of the reproduction, whose
# numbers differ by the axis; full_area: the same without the cap that pixels in no mask put on it; rise: of
# RISE, whose steps are equally many pixels
PRESETS: Mapping[str, Rule] = MappingProxyType(
    {
        "eac_official": Rule(axis="count", anchors="none", clip_norm=True),
        "eac_repro": Rule(axis="area", anchors="start", clip_norm=True),
        "full_area": Rule(axis="area", anchors="both", clip_norm=True),
        "rise": Rule(axis="count", anchors="start", clip_norm=False),
    }
)


def auc(curve: Floats, rule: Rule, p0: float, areas: Floats | None = None, end: float | None = None) -> float:
    """By the trapezoidal rule, in [0, 1]: NaN without a step.

    areas (n + 1,): share of the pixels that are changed before and after each step, for the axis `area`; end:
    the probability when all of them are, for anchors `both`. With anchors `none` a single step has no width,
    and the curve's one value counts, as in EAC's code (which forgets its factor of 100 there). Raises
    ValueError if p0 is not above 0 and the curve is to be divided by it, or if `areas` or `end` are missing.
    """
    n = len(curve) - 1
    if n < 1:
        return float("nan")
    if rule.axis == "count":
        x = np.arange(n + 1) / n
    elif areas is not None:
        x = areas.astype(np.float64)
    else:
        raise ValueError("the axis `area` needs the areas")
    y = curve.astype(np.float64)
    if rule.anchors == "both":
        if end is None:
            raise ValueError("the anchors `both` need the end")
        x, y = np.append(x, 1.0), np.append(y, end)
    if rule.clip_norm:
        if not p0 > 0:
            raise ValueError(f"p0 = {p0}: the explained class must have a probability above 0")
        y = np.minimum(y, p0) / p0
    if rule.anchors == "none":
        x, y = x[1:], y[1:]
    return float(np.trapezoid(y, x)) if len(y) > 1 else float(y[0])


def standard_error(values: Floats) -> float:
    """Of the mean of (n,); NaN for fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
