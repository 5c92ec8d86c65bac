"""What a trial keeps of each image of the test split: what it is, what was predicted, and what decided it."""

import numpy as np
import pyarrow as pa

from components.data.columns import Data
from components.evaluation.accuracies import FAILED, predictions_of
from components.method import Contributions, Fitted, Method

EVIDENCE = pa.list_(pa.struct({"what": pa.string(), "contribution": pa.float32()}))


def predictions(method: Method, fitted: Fitted, data: Data) -> pa.Table:
    """A row for each image: image_id; path, below the data set's root; label, group and predicted, which is
    FAILED where a stage could not process it, and the names of the three; evidence, the method's
    contributions."""
    test = data.split("test")
    predicted = predictions_of(data, test.ids, lambda ids: method.predict(fitted, data, ids))
    usable = predicted != FAILED
    evidence: list[Contributions] = [[] for _ in test.ids]
    said = method.contributions(fitted, data, test.ids[usable]) if usable.any() else []
    for row, contributions in zip(np.flatnonzero(usable), said, strict=True):
        evidence[row] = contributions
    classes, groups = data.card.classes, data.index.group_names
    known = [classes[y] if 0 <= y < len(classes) else None for y in predicted]  # a checkpoint has its own
    told = [[{"what": what, "contribution": value} for what, value in one] for one in evidence]
    return pa.table(
        {
            "image_id": test.ids,
            "path": data.index.paths[data.rows(test.ids)],
            "label": test.labels,
            "label_name": [classes[y] for y in test.labels],
            "group": test.groups,
            "group_name": [groups[g] for g in test.groups],
            "predicted": predicted,
            "predicted_name": pa.array(known, pa.string()),
            "evidence": pa.array(told, EVIDENCE),
        }
    )
