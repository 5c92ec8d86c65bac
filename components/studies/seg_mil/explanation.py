"""Explanations of SEG-MIL-CBM: attention per segment, and what each segment says.

n bags, N segments, S of one bag, K concepts, C classes.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.columns import Data
from components.data.images import blocks
from components.method import STRONGEST, Contributions, Explanation
from components.pixels.bags import WHOLE_IMAGE
from components.pixels.crops import stored_masks
from components.studies.seg_mil.bag_tensors import BagTensors, chosen_bags
from components.studies.seg_mil.head import MilHead, MilOutput, of_class
from components.studies.seg_mil.heads import BAGS_AT_ONCE, run_head
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.objects import CONCEPTS, ELSEWHERE, MISSED, UNKNOWN, object_overlap

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.floating]
CONCEPTS_SHOWN = 2
UNNAMED = "unnamed"  # a concept whose name does not hold
IN_WORDS = {
    UNKNOWN: "",
    MISSED: ": the segments miss the object",
    ELSEWHERE: ": attention is elsewhere",
    CONCEPTS: ": it saw the object, the concepts misled",
}


def explain_bags(
    method: SegMilKnobs, head: MilHead, data: Data, bags: BagTensors, trusted: Collection[str]
) -> list[Explanation]:
    """One explanation per bag: its segments, weighted by `deciding_attention`.

    Each tells for which of the predicted class y and its rival r (the true class where y is wrong, else the
    runner-up) it speaks, by how much, |C_iy - C_ir| of the evidence C; what chose it, the detector's phrase
    or the concept closest by CLIP; and the concepts that say so most: those with the largest share of this
    difference, NOT before one that is absent, `unnamed` for one whose name is not `trusted`. Where none is,
    no concept is named, and the title says so; else it says how many are. The title of a wrong one gives the
    reason, where masks of objects tell.
    """
    if len(bags.labels) == 0:
        return []
    said = _Said(method, head, data, bags, trusted)
    attention = deciding_attention(said.output, said.predicted, said.rival)
    reasons = object_overlap(data, bags.bags).reasons(attention, bags.bags.areas)
    table = data["segments"].read(bags.bags.ids, ["height", "width", "counts"])
    names, classes = data.card.vocabulary(method.vocabulary), data.card.classes
    note = f"; names of {len(trusted)} of {len(names)} concepts hold"
    if not trusted:
        note = f"; words are {said.source}'s, the head's concepts mean nothing"
    explanations = []
    for row, image_id in enumerate(bags.bags.ids):
        places = np.flatnonzero(bags.bags.valid[row])
        y, r = classes[said.predicted[row]], classes[said.rival[row]]
        explanations.append(
            Explanation(
                image_id=int(image_id),
                title=_title(y, classes[bags.labels[row]], reasons[row]) + note,
                masks=bag_masks(table, row, bags.bags.segments[row, places]),
                weights=attention[row, places],
                captions=tuple(
                    f"{_speaks(said.margins[row, i], y, r)} {said.of(row, int(i))}" for i in places
                ),
            )
        )
    return explanations


def strongest_segments(
    method: SegMilKnobs, head: MilHead, data: Data, bags: BagTensors, trusted: Collection[str]
) -> list[Contributions]:
    """Of each bag what `explain_bags` says of its segments, the strongest first: C_iy - C_ir, which is below
    0 for one that speaks for the rival, of the segment with its number in the stage `segments`."""
    found: list[Contributions] = []
    for some in blocks(len(bags.labels), BAGS_AT_ONCE):
        few = chosen_bags(bags, np.arange(len(bags.labels))[some])
        said = _Said(method, head, data, few, trusted)
        for row, margins in enumerate(said.margins):
            places = np.flatnonzero(few.bags.valid[row])
            places = places[np.argsort(-np.abs(margins[places]), kind="stable")][:STRONGEST]
            numbers = few.bags.segments[row, places]
            called = ["" if number == WHOLE_IMAGE else f"segment {number} " for number in numbers]
            words = [name + said.of(row, int(i)) for name, i in zip(called, places, strict=True)]
            found.append(list(zip(words, map(float, margins[places]), strict=True)))
    return found


class _Said:
    """What each segment says: predicted, rival int64 (n,); margins float (n, N), C_iy - C_ir, above 0 where
    it speaks for the predicted class; source: who chose it."""

    def __init__(
        self, method: SegMilKnobs, head: MilHead, data: Data, bags: BagTensors, trusted: Collection[str]
    ) -> None:
        logits, self.output = run_head(head, bags)
        self.predicted, self.rival = opposed(logits, bags.labels)
        with torch.inference_mode():
            terms = head.terms(self.output, self.predicted) - head.terms(self.output, self.rival)
        self._terms = terms.numpy()
        self.margins = self._terms.sum(axis=-1)
        self.source = "CLIP" if method.boxes is None else "the detector"
        self._bags, self._trusts = bags.bags, bool(trusted)
        self._names = data.card.vocabulary(method.vocabulary)
        self._known = tuple(name if name in trusted else UNNAMED for name in self._names)

    def of(self, row: int, place: int) -> str:
        """What chose the segment, and the concepts that say so most."""
        own = int(self._bags.concepts[row, place])
        chosen = "(the whole image)" if own == WHOLE_IMAGE else f"({self.source}: {self._names[own]})"
        if not self._trusts:
            return chosen
        concepts = self.output.concepts[row, place].numpy()
        return f"{chosen}: {_largest(self._terms[row, place], concepts, self._known)}"


def opposed(logits: Floats, labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The predicted class of logits (n, C), and its rival: the true class where the prediction is wrong, else
    the runner-up, int64 (n,) each."""
    order = np.argsort(-logits, axis=1, kind="stable")
    rival = np.where(order[:, 0] == labels, order[:, 1], labels)
    return torch.from_numpy(order[:, 0].copy()), torch.from_numpy(rival)


def deciding_attention(output: MilOutput, predicted: Tensor, rival: Tensor) -> NDArray[np.float32]:
    """Mean of the attention for both classes, (n, N), rows summing to 1. In v2 these differ, and what speaks
    against the rival, where that looks, decides as much as what speaks for the predicted class."""
    return ((of_class(output.attention, predicted) + of_class(output.attention, rival)) / 2).numpy()


def evidence_maps(evidence: Floats, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where the evidence (S, C) of segments with these masks (S, H, W) lies: at each pixel the mean of the
    evidence of the segments that have it, 0 where none has (docs/methods/seg_mil.md, eq. 24); (C, H, W)."""
    count = np.maximum(masks.sum(axis=0), 1)
    return np.tensordot(evidence.T.astype(np.float64), masks, axes=1) / count


def bag_masks(segments: "pa.Table", row: int, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Masks (S, H, W) of the chosen segments of one row of the stage `segments`."""
    stored = stored_masks(segments, row)
    whole = np.ones((segments["height"][row].as_py(), segments["width"][row].as_py()), dtype=bool)
    return np.stack([whole if i == WHOLE_IMAGE else stored[i] for i in chosen])


def _speaks(margin: float, predicted: str, rival: str) -> str:
    """For which class a segment speaks, and by how much; a margin above 0 is for the predicted one."""
    return f"{predicted if margin >= 0 else rival} +{abs(margin):.2f}"


def _largest(terms: Floats, concepts: Floats, names: tuple[str, ...]) -> str:
    """The concepts that say so most: NOT, where it is their absence, a concept (K,) below 0, that speaks."""
    sign = 1 if float(terms.sum()) >= 0 else -1
    top = np.argsort(-sign * terms, kind="stable")[:CONCEPTS_SHOWN]
    said = (f"NOT {names[k]}" if concepts[k] < 0 and names[k] != UNNAMED else names[k] for k in top)
    return ", ".join(dict.fromkeys(said))


def _title(predicted: str, label: str, reason: str) -> str:
    verdict = "right" if predicted == label else f"wrong, is {label}{IN_WORDS[reason]}"
    return f"{predicted} ({verdict})"
