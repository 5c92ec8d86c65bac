"""From stored curves of insertion and deletion to numbers of each image: NaN for one without masks.

n images.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from components.data.columns import Column, Ids
from components.data.images import blocks
from components.metrics.insertion_deletion import PRESETS, auc

Scores = dict[str, NDArray[np.float64]]  # by name, (n,)
BY_PIXELS = "rise"  # the rule of pixel-wise curves; the others are of mask-wise ones
NO_MASK = -1
IMAGES_AT_ONCE = 256


def mask_scores(column: Column, ids: Ids) -> Scores:
    """Of the stage `mask_curves`: `n_masks`, `union_coverage` (the share of the square that they cover), and
    `insertion_auc_…` and `deletion_auc_…` by each rule for curves by masks."""
    rules = {name: rule for name, rule in PRESETS.items() if name != BY_PIXELS}
    rows = []
    for p0, (areas, insertion, deletion) in _rows(column, ids, "areas", "insertion", "deletion"):
        found = {"n_masks": float(len(areas) - 1), "union_coverage": float(areas[-1])}
        for name, rule in rules.items():
            found[f"insertion_auc_{name}"] = auc(insertion, rule, p0, areas, end=p0)
            found[f"deletion_auc_{name}"] = auc(deletion, rule, p0, areas, end=float(insertion[0]))
        rows.append(found)
    return _columns(rows)


def pixel_scores(column: Column, ids: Ids) -> Scores:
    """Of the stage `pixel_curves`: `insertion_auc_rise`, `deletion_auc_rise`."""
    curves = _rows(column, ids, "insertion", "deletion")
    return _columns(
        [
            {
                f"insertion_auc_{BY_PIXELS}": auc(insertion, PRESETS[BY_PIXELS], p0),
                f"deletion_auc_{BY_PIXELS}": auc(deletion, PRESETS[BY_PIXELS], p0),
            }
            for p0, (insertion, deletion) in curves
        ]
    )


def top_masks(column: Column, ids: Ids) -> NDArray[np.int64]:
    """The first mask of the stage `mask_curves`, as its position among the image's segments: (n,), NO_MASK
    where there is none."""
    orders = column.read(ids, ["order"])["order"].to_pylist()
    return np.array([order[0] if order else NO_MASK for order in orders], np.int64)


def _rows(column: Column, ids: Ids, *fields: str) -> Iterator[tuple[float, list[NDArray[np.float64]]]]:
    """Of each image: the probability of the whole, and these lists."""
    for part in blocks(len(ids), IMAGES_AT_ONCE):
        table = column.read(ids[part], ["probability", *fields])
        lists = (table[field].to_pylist() for field in fields)
        for p0, *of_image in zip(table["probability"].to_pylist(), *lists, strict=True):
            yield p0, [np.array(values, np.float64) for values in of_image]


def _columns(rows: list[dict[str, float]]) -> Scores:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
