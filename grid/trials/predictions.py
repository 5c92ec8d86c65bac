"""What a trial keeps of each image of the test split: what it is, what was predicted, and what decided it."""

import numpy as np
import pyarrow as pa

from components.data.columns import Data
from components.evaluation.accuracies import FAILED, predictions_of
from components.method import Contributions, Fitted, Method
from grid.stores.evidence import PREDICTED


def predictions(method: Method, fitted: Fitted, data: Data) -> pa.Table:
    """Rows of PREDICTED; evidence is the method's `contributions`, none where a stage failed on the image."""
    test = data.split("test")
    predicted = predictions_of(data, test.ids, lambda ids: method.predict(fitted, data, ids))
    usable = predicted != FAILED
    evidence: list[Contributions] = [[] for _ in test.ids]
    said = method.contributions(fitted, data, test.ids[usable]) if usable.any() else []
    for row, contributions in zip(np.flatnonzero(usable), said, strict=True):
        evidence[row] = contributions
    classes, groups = data.card.classes, data.index.group_names
    names = [_name(int(y), classes) for y in predicted]
    told = [[{"what": what, "contribution": value} for what, value in one] for one in evidence]
    columns = {
        "image_id": test.ids,
        "path": data.index.paths[data.rows(test.ids)],
        "label": test.labels,
        "label_name": [classes[y] for y in test.labels],
        "group": test.groups,
        "group_name": [groups[g] for g in test.groups],
        "predicted": predicted,
        "predicted_name": names,
        "evidence": told,
    }
    return pa.table(columns, PREDICTED)


def _name(predicted: int, classes: tuple[str, ...]) -> str | None:
    if predicted == FAILED:
        return None
    return classes[predicted] if predicted < len(classes) else f"class {predicted}"  # of a checkpoint
