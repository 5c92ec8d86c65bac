"""Explanations of SEG-MIL-CBM v1: attention per segment and the concepts of each."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.bags import WHOLE_IMAGE
from components.crops import stored_masks
from components.data import Data
from components.method import Explanation
from components.models.mil_bags import BagTensors
from components.models.mil_training import run_head
from components.models.mil_v1 import MilV1

if TYPE_CHECKING:
    import pyarrow as pa

    from components.methods.seg_mil_cbm import SegMilCbm

CONCEPTS_SHOWN = 2


def explain_bags(method: "SegMilCbm", head: MilV1, data: Data, bags: BagTensors) -> list[Explanation]:
    """One explanation per bag: its segments, weighted by attention, with the concepts whose terms
    z_ik (w_yk - mean over classes) for the predicted class y are largest."""
    logits, output = run_head(head, bags)
    predicted = logits.argmax(axis=1)
    weights = head.classifier.weight.detach().numpy()
    contrast = weights - weights.mean(axis=0)
    terms = output.concepts.numpy() * contrast[predicted][:, None, :]
    table = data["segments"].read(bags.bags.ids, ["height", "width", "counts"])
    names = data.card.vocabulary(method.vocabulary)
    explanations = []
    for row, image_id in enumerate(bags.bags.ids):
        n_valid = int(bags.bags.valid[row].sum())
        captions = [_top(terms[row, i], names) for i in range(n_valid)]
        explanations.append(
            Explanation(
                image_id=int(image_id),
                title=_title(data, int(predicted[row]), int(bags.labels[row])),
                masks=_masks(table, row, bags.bags.segments[row, :n_valid]),
                weights=output.attention[row, :n_valid].numpy(),
                captions=tuple(captions),
            )
        )
    return explanations


def _top(terms: NDArray[np.float32], names: tuple[str, ...]) -> str:
    return ", ".join(names[k] for k in np.argsort(-terms)[:CONCEPTS_SHOWN])


def _title(data: Data, predicted: int, label: int) -> str:
    classes = data.card.classes
    verdict = "right" if predicted == label else f"wrong, is {classes[label]}"
    return f"{classes[predicted]} ({verdict})"


def _masks(table: "pa.Table", row: int, segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    stored = stored_masks(table, row)
    whole = np.ones((table["height"][row].as_py(), table["width"][row].as_py()), dtype=bool)
    return np.stack([whole if i == WHOLE_IMAGE else stored[i] for i in segments])
