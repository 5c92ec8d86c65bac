"""Training, selection and diagnostics of SEG-MIL-CBM's head on frozen features."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.data import Data
from components.identity import rng
from components.images import DataError
from components.method import Fitted, Metric, Report
from components.metrics.accuracy import average_accuracy, worst_group_accuracy
from components.models.mil_bags import BagTensors
from components.models.mil_v1 import (
    ConceptTargets,
    MilOutput,
    MilV1,
    best_constant_cosine,
    concept_cosine,
)
from components.models.network import dump_tensors, load_tensors

if TYPE_CHECKING:
    from components.methods.seg_mil_cbm import SegMilCbm

Moments = tuple[Tensor, Tensor]  # mean and standard deviation of each feature or concept

CONCENTRATED = 0.99  # attention above which one segment decides alone (A9.5)


def fit_head(
    method: "SegMilCbm", data: Data, train: BagTensors, val: BagTensors, seed: int, report: Report
) -> Fitted:
    """Adam with cosine decay on L = L_cls + lambda_concept L_concept (A6). Every epoch is a candidate:
    the fitted tensors hold, under the selection's name, the last one and the best by validation.

    Raises FloatingPointError with the step when the loss stops being finite, DataError if there is no bag.
    """
    if len(train.labels) == 0:
        raise DataError("no training image went through every stage")
    head = _new_head(method, train, len(data.card.classes), seed)
    steps = method.epochs * -(-len(train.labels) // method.batch_size)
    optimizer = torch.optim.Adam(head.parameters(), method.learning_rate, weight_decay=method.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    stream = rng(seed, "seg_mil_cbm batches")
    chosen = Selection()
    for epoch in range(method.epochs):
        head.train()
        losses = []
        for rows in torch.from_numpy(stream.permutation(len(train.labels))).split(method.batch_size):
            loss = _loss(method, head, train, rows)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {schedule.last_epoch}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        chosen.consider(head, val)
        report(epoch, train_loss=float(np.mean(losses)), **chosen.scores)
    return Fitted(chosen.tensors, {"concepts": list(data.card.vocabulary(method.vocabulary))})


class Selection:
    """Keeps a copy of the head for each rule: the last epoch, and the first best by validation."""

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[np.float32]] = {}
        self.scores: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def consider(self, head: MilV1, val: BagTensors) -> None:
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

    def _keep(self, rule: str, head: MilV1) -> None:
        self.tensors |= {f"{rule}/{name}": value for name, value in dump_tensors(head).items()}


def _new_head(method: "SegMilCbm", train: BagTensors, n_classes: int, seed: int) -> MilV1:
    features, similarities = (_moments(x[train.valid]) for x in (train.features, train.similarities))
    with torch.random.fork_rng():
        torch.manual_seed(int(rng(seed, "seg_mil_cbm head").integers(2**31)))
        return _head(method, features, similarities, n_classes)


def _moments(values: Tensor) -> Moments:
    return values.mean(dim=0), values.std(dim=0, correction=0).clamp_min(1e-6)


def _head(method: "SegMilCbm", features: Moments, similarities: Moments, n_classes: int) -> MilV1:
    targets = ConceptTargets(*similarities, method.target, method.target_temperature)
    return MilV1(*features, targets, n_classes, method.attention_hidden, method.attention_temperature)


def load_head(method: "SegMilCbm", fitted: Fitted, selection: str) -> MilV1:
    """The head that `selection` chose, in evaluation mode."""
    prefix = f"{selection}/"
    tensors = {
        name.removeprefix(prefix): value for name, value in fitted.tensors.items() if name.startswith(prefix)
    }
    features, similarities = (
        (torch.from_numpy(tensors[f"{of}mean"].copy()), torch.from_numpy(tensors[f"{of}std"].copy()))
        for of in ("", "targets.")
    )
    head = _head(method, features, similarities, len(tensors["classifier.bias"]))
    load_tensors(head, tensors)
    return head.eval()


def _loss(method: "SegMilCbm", head: MilV1, bags: BagTensors, rows: Tensor) -> Tensor:
    valid = bags.valid[rows]
    output = head(bags.features[rows], valid)
    labels = torch.from_numpy(bags.labels)[rows]
    alignment = concept_cosine(output.concepts, head.targets(bags.similarities[rows]), valid)
    return nn.functional.cross_entropy(output.logits, labels) - method.lambda_concept * alignment


def run_head(head: MilV1, bags: BagTensors) -> tuple[NDArray[np.float32], MilOutput]:
    """Logits (n, C) as an array, and the whole output."""
    head.eval()
    with torch.inference_mode():
        output = head(bags.features, bags.valid)
    return output.logits.numpy(), output


def diagnostics(head: MilV1, bags: BagTensors, split: str) -> list[Metric]:
    """What a reader must know beside the accuracies (A6, A9.5, A9.7): what the concept loss taught above a
    constant, how concentrated attention is, and how many bags are the whole image."""
    _, output = run_head(head, bags)
    attention = output.attention
    entropy = -(attention * attention.clamp_min(1e-12).log()).sum(dim=1)
    targets = head.targets(bags.similarities)
    cosine = concept_cosine(output.concepts, targets, bags.valid)
    values = {
        "concept_cosine": cosine,
        "concept_cosine_above_constant": cosine - best_constant_cosine(targets, bags.valid),
        "attention_entropy": entropy.mean(),
        "attention_concentrated": (attention.max(dim=1).values > CONCENTRATED).float().mean(),
        "whole_image_fallback": torch.from_numpy(bags.bags.fallback).float().mean(),
        "segments_per_bag": bags.valid.sum(dim=1).float().mean(),
    }
    return [Metric(name, float(value), split) for name, value in values.items()]
