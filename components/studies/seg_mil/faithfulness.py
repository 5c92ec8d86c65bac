"""Whether the segments that a head calls its evidence are: deletion and insertion, segment by segment.

It is defined in docs/methods/seg_mil.md, "Faithfulness"; the curves are those of Petsiuk et al. 2018, with
segments for pixels.

n bags, N segments of the longest, C classes; k segments are deleted or inserted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.identity import rng
from components.method import Metric
from components.studies.seg_mil.bag_tensors import BagTensors, chosen_bags
from components.studies.seg_mil.head import MilHead, MilOutput, of_class
from components.studies.seg_mil.heads import run_head

STEPS = 10  # of the fraction of segments
RANDOM_ORDERS = 3
MOST_IMAGES = 1000  # of a split: the same ones in every trial
BAGS_AT_ONCE = 1024
MODES = ("zero", "drop")


@dataclass(frozen=True)
class Curve:
    """What the head says with the first k = 0 .. N segments of an order alone (inserted), or without them
    (deleted): probability of the class predicted from the whole bag, and class predicted, (n, N + 1) each.
    A bag with fewer segments stays as it is once they are through."""

    inserted: NDArray[np.float64]
    inserted_class: NDArray[np.int64]
    deleted: NDArray[np.float64]
    deleted_class: NDArray[np.int64]


def faithfulness(head: MilHead, bags: BagTensors, split: str) -> list[Metric]:
    """Means over at most MOST_IMAGES bags, drawn once for each split, of

    `faithfulness_deletion_auc_<mode>`, `faithfulness_insertion_auc_<mode>`: area under the probability of
    the predicted class as the best segments are deleted, inserted, in STEPS equal fractions of the bag
    (their number is rounded, halves up), by the trapezoid rule, in [0, 1];
    `faithfulness_top_1_insertion_<mode>`: share of bags whose best segment alone gives their prediction;
    `faithfulness_top_5_deletion_<mode>`: share of those whose prediction changes without the best five, or
    without all where there are no more.

    Mode `zero`: the embedding h of a segment is set to zero, and the head reads the bag again; `drop`: the
    head reads the bag without it, and without any segment the logits are the offset of the whole bag.
    Group `all`: segments ordered by the head's own evidence (`ranking`). Groups `attention`, `area`, `score`:
    by these, the largest first; `random`: the mean over RANDOM_ORDERS orders. Ties: as in the bag.
    """
    drawn = rng(0, "faithfulness images", split).permutation(len(bags.labels))[:MOST_IMAGES]
    bags = chosen_bags(bags, np.sort(drawn))
    if len(bags.labels) == 0:
        return []
    _, output = run_head(head, bags)
    predicted = output.logits.argmax(dim=1)
    stream = rng(0, "faithfulness orders", split)
    rankings = {
        "all": [ranking(of_class(output.evidence, predicted), bags.valid)],
        "attention": [of_class(output.attention, predicted)],
        "area": [bags.areas],
        "score": [torch.from_numpy(bags.bags.scores)],
        "random": [torch.from_numpy(stream.random(bags.valid.shape)) for _ in range(RANDOM_ORDERS)],
    }
    metrics = []
    for group, scores in rankings.items():
        for mode in MODES:
            curves = [curve(head, bags, output, order_of(one, bags.valid), mode) for one in scores]
            found = [summary(one, predicted.numpy(), bags.bags.valid.sum(axis=1)) for one in curves]
            metrics += [
                Metric(
                    f"faithfulness_{name}_{mode}", float(np.mean([one[name] for one in found])), split, group
                )
                for name in found[0]
            ]
    return metrics


def ranking(evidence: Tensor, valid: Tensor) -> Tensor:
    """S_i = max(0, C_i) of the evidence C (n, N) for the predicted class; |C_i| in bags where none is above 0
    (docs/methods/seg_mil.md, eq. 21)."""
    positive = ((evidence > 0) & valid).any(dim=1, keepdim=True)
    return torch.where(positive, evidence.clamp_min(0), evidence.abs())


def order_of(scores: Tensor, valid: Tensor) -> Tensor:
    """Positions of the segments by descending score, int64 (n, N); ties as in the bag, invalid ones last."""
    return scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)


@torch.inference_mode()
def curve(head: MilHead, bags: BagTensors, output: MilOutput, order: Tensor, mode: str) -> Curve:
    """The curve of these bags, of which the head gave `output`, by this order (n, N)."""
    after = {"zero": _zeroed, "drop": _dropped}[mode](head, bags, output, order)
    predicted = output.logits.argmax(dim=1)[:, None, None]
    found = []
    for logits in after:
        probability = logits.double().softmax(dim=-1).gather(-1, predicted.expand(-1, logits.shape[1], 1))
        found += [probability[..., 0].numpy(), logits.argmax(dim=-1).numpy()]
    return Curve(*found)


def summary(curve: Curve, predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, float]:
    """The four numbers, of bags with `counts` (n,) segments whose whole gave the classes `predicted` (n,)."""
    steps = (2 * np.arange(STEPS + 1) * counts[:, None] + STEPS) // (2 * STEPS)
    rows = np.arange(len(counts))
    return {
        "deletion_auc": _area(np.take_along_axis(curve.deleted, steps, axis=1)),
        "insertion_auc": _area(np.take_along_axis(curve.inserted, steps, axis=1)),
        "top_1_insertion": float((curve.inserted_class[:, 1] == predicted).mean()),
        "top_5_deletion": float((curve.deleted_class[rows, np.minimum(5, counts)] != predicted).mean()),
    }


def _area(heights: NDArray[np.float64]) -> float:
    """Under curves over [0, 1] with equal steps, (n, steps + 1): their mean."""
    return float(np.trapezoid(heights, dx=1 / STEPS, axis=1).mean())


def _zeroed(head: MilHead, bags: BagTensors, output: MilOutput, order: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, N + 1, C) with the embeddings of all but the first k set to zero, and of the first k."""
    concepts, scores = head.read(bags.features)
    no_concepts, no_scores = head.read(bags.features.new_zeros(1, 1, bags.features.shape[-1]))
    rank = order.argsort(dim=1)
    logits: tuple[list[Tensor], list[Tensor]] = ([], [])
    for k in range(order.shape[1] + 1):
        first = (rank < k)[..., None]
        for found, kept in zip(logits, (first, ~first), strict=True):
            z, e = torch.where(kept, concepts, no_concepts), torch.where(kept, scores, no_scores)
            found.append(head.pool(z, e, bags.valid, bags.areas).logits)
    alone, without = (torch.stack(found, dim=1) for found in logits)
    return alone, without


def _dropped(head: MilHead, bags: BagTensors, output: MilOutput, order: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, N + 1, C) of the bags of the first k alone, and of those without them."""
    counts = bags.valid.sum(dim=1)
    n, length = order.shape
    k = torch.arange(length + 1).expand(n, -1).minimum(counts[:, None])
    alone = _of_slices(head, bags, output, order, torch.zeros_like(k), k)
    return alone, _of_slices(head, bags, output, order, k, counts[:, None].expand_as(k))


def _of_slices(
    head: MilHead, bags: BagTensors, output: MilOutput, order: Tensor, start: Tensor, stop: Tensor
) -> Tensor:
    """Logits (n, M, C) of the bags that hold only the segments order[start:stop], (n, M) each."""
    concepts, scores = head.read(bags.features)
    logits = output.offset[:, None].repeat(1, start.shape[1], 1)
    kept = stop - start
    whole = kept == bags.valid.sum(dim=1, keepdim=True)
    logits[whole] = output.logits[:, None].expand_as(logits)[whole]
    for rows, columns in _batches(kept.masked_fill(whole, 0)):
        size = kept[rows, columns]
        offsets = torch.arange(int(size.max()))
        valid = offsets < size[:, None]
        ranks = torch.where(valid, start[rows, columns][:, None] + offsets, 0)
        places = rows[:, None], order[rows[:, None], ranks]
        pooled = head.pool(concepts[places], scores[places], valid, bags.areas[places])
        logits[rows, columns] = pooled.logits
    return logits


def _batches(kept: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and columns where something is kept, those that keep equally much together: little padding."""
    rows, columns = kept.nonzero(as_tuple=True)
    by_size = kept[rows, columns].argsort(stable=True)
    for part in by_size.split(BAGS_AT_ONCE) if len(rows) else ():
        yield rows[part], columns[part]
