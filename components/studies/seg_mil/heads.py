"""Heads of SEG-MIL-CBM as the knobs ask for: new ones, fitted ones, and what they say of bags."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.columns import Data
from components.data.images import DataError, blocks
from components.identity import rng
from components.method import Fitted
from components.models.networks.network import load_tensors
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.head import MilHead, MilOutput
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.targets import ConceptTargets

BAGS_AT_ONCE = 1024
Moments = tuple[Tensor, Tensor]  # mean and standard deviation of each feature or concept


def new_head(method: SegMilKnobs, data: Data, train: BagTensors, seed: int) -> MilHead:
    """The head before any training, its moments those of the training bags; DataError if there is no bag, or
    one class."""
    if len(train.labels) == 0:
        raise DataError("no training image went through every stage")
    if len(data.card.classes) < 2:
        raise DataError(f"{data.card.name} has one class: there is nothing to tell apart")
    features, similarities = (_moments(x[train.valid]) for x in (train.features, train.similarities))
    with torch.random.fork_rng():
        torch.manual_seed(int(rng(seed, "seg_mil_cbm head").integers(2**31)))
        return _head(method, features, similarities, len(data.card.classes))


def rescale(head: MilHead, train: BagTensors) -> None:
    """Gives the head the moments of the training bags' features as they are now, where a warm-up has moved
    them; what it says of any bag stays the same (docs/methods/seg_mil.md, eq. 19)."""
    head.rescale(*_moments(train.features[train.valid]))


def _moments(values: Tensor) -> Moments:
    return values.mean(dim=0), values.std(dim=0, correction=0).clamp_min(1e-6)


def _head(method: SegMilKnobs, features: Moments, similarities: Moments, n_classes: int) -> MilHead:
    targets = ConceptTargets(*similarities, method.target, method.target_temperature)
    shared: dict[str, Any] = {
        "hidden": method.attention_hidden,
        "temperature": method.attention_temperature,
        "pooling": method.pooling,
        "scaling": method.feature_scaling,
    }
    if method.head == "v1":
        return MilV1(*features, targets, n_classes, **shared)
    shared |= {"area_exponent": method.area_exponent, "area_floor": method.area_floor}
    return MilV2(*features, targets, n_classes, **shared)


def load_head(method: SegMilKnobs, fitted: Fitted, selection: str) -> MilHead:
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


def run_head(head: MilHead, bags: BagTensors) -> tuple[NDArray[np.float32], MilOutput]:
    """Logits (n, C) as an array, and the whole output; the head reads BAGS_AT_ONCE at a time."""
    head.eval()
    n = max(len(bags.labels), 1)  # the shapes of none are asked of the head too
    with torch.inference_mode():
        parts = [
            head(bags.features[some], bags.valid[some], bags.areas[some]) for some in blocks(n, BAGS_AT_ONCE)
        ]
    output = MilOutput(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(MilOutput))
    )
    return output.logits.numpy(), output
