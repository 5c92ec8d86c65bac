"""Losses, training and selection of SEG-MIL-CBM's heads."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.data.columns import Data
from components.identity import rng
from components.method import Fitted, Report
from components.metrics.accuracy import average_accuracy, worst_group_accuracy
from components.models.networks.network import dump_tensors
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.head import MilHead
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.targets import concept_cosine, concept_cosine_above_controls, names_hold

KNOWS, HOLD = "val_concept_cosine_above_controls", "concepts_whose_names_hold"  # facts of what was fitted


def fit_head(
    method: SegMilKnobs,
    data: Data,
    head: MilHead,
    train: BagTensors,
    val: BagTensors,
    seed: int,
    report: Report,
) -> Fitted:
    """Trains `head` by Adam with cosine decay on `bag_loss`. Every epoch is a candidate: the fitted tensors
    hold, under the selection's name, the last one and the best by validation.

    Raises FloatingPointError with the step when the loss stops being finite.
    """
    steps = method.epochs * -(-len(train.labels) // method.batch_size)
    optimizer = torch.optim.Adam(head.parameters(), method.learning_rate, weight_decay=method.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    stream = rng(seed, "seg_mil_cbm batches")
    dropout = rng(seed, "seg_mil_cbm segment dropout")
    chosen = Selection()
    for epoch in range(method.epochs):
        head.train()
        losses = []
        for rows in torch.from_numpy(stream.permutation(len(train.labels))).split(method.batch_size):
            loss = bag_loss(method, head, train, rows, train.features[rows], dropout)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {schedule.last_epoch}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        chosen.consider(head, val)
        report(epoch, train_loss=float(np.mean(losses)), **chosen.scores)
    names = list(data.card.vocabulary(method.vocabulary))
    return Fitted(chosen.tensors, {"concepts": names, **_what_names_are_worth(head, val, names)})


def trusted_names(fitted: Fitted) -> frozenset[str]:
    """The concepts whose names may be said of a segment, by the last epoch's on validation images: those that
    `names_hold`, where all together beat their controls. None where it is not known."""
    return frozenset(fitted.facts.get(HOLD, ()))


def _what_names_are_worth(head: MilHead, val: BagTensors, names: list[str]) -> dict[str, Any]:
    if len(val.labels) == 0:
        return {KNOWS: None, HOLD: []}
    concepts, targets = run_head(head, val)[1].concepts, head.targets(val.similarities)
    above = float(concept_cosine_above_controls(concepts, targets, val.valid))
    hold = names_hold(concepts, targets, val.valid).tolist() if above > 0 else [False] * len(names)
    return {KNOWS: above, HOLD: [name for name, holds in zip(names, hold, strict=True) if holds]}


def bag_loss(
    method: SegMilKnobs,
    head: MilHead,
    bags: BagTensors,
    rows: Tensor,
    features: Tensor,
    dropout: np.random.Generator,
) -> Tensor:
    """L = L_cls + lambda_concept L_concept + lambda_background L_background (docs/methods/seg_mil.md, eq. 16)
    of these rows of the bags, features (B, N, D), on the features' device. Segments that drop out are in no
    part of it.

    L_background is the attention on background, averaged over bags and, in v2, over classes: where it is
    that of the true class alone, the other classes go on looking there, and decide by it.
    """
    device = features.device
    valid = without_dropped(bags.valid[rows], method.segment_dropout, dropout).to(device)
    output = head(features, valid, bags.areas[rows].to(device))
    labels = torch.from_numpy(bags.labels)[rows].to(device)
    targets = head.targets(bags.similarities[rows].to(device))
    loss = nn.functional.cross_entropy(output.logits, labels)
    loss = loss - method.lambda_concept * concept_cosine(output.concepts, targets, valid)
    if bags.background is not None:
        mass = (output.attention * bags.background[rows].to(device)[..., None]).sum(dim=1)
        loss = loss + method.lambda_background * mass.mean()
    return loss


def without_dropped(valid: Tensor, share: float, stream: np.random.Generator) -> Tensor:
    """`valid` bool (B, N) without those that drop out, each with probability `share`; of a bag that would be
    empty, one stays."""
    if share == 0:
        return valid
    drawn = torch.from_numpy(stream.random(valid.shape)).masked_fill(~valid, -1.0)
    return (drawn >= share) | (valid & (drawn == drawn.max(dim=1, keepdim=True).values))


class Selection:
    """Keeps a copy of the head for each rule: the last epoch, and the first best by validation."""

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[np.float32]] = {}
        self.scores: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def consider(self, head: MilHead, val: BagTensors) -> None:
        """Takes one candidate: the head after an epoch."""
        predictions = run_head(head, val)[0].argmax(axis=1)
        average = average_accuracy(predictions, val.labels)
        worst = worst_group_accuracy(predictions, val.labels, val.groups)
        self.scores = {"val_average_accuracy": average, "val_worst_group_accuracy": worst}
        self._keep("last", head)
        for rule, score in (("val_average", average), ("val_worst_group", worst)):
            if not score <= self._best.get(rule, -1.0):  # without validation images it is NaN: the last
                self._best[rule] = score
                self._keep(rule, head)

    def _keep(self, rule: str, head: MilHead) -> None:
        self.tensors |= {f"{rule}/{name}": value for name, value in dump_tensors(head).items()}
