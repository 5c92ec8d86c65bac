"""Bags of SEG-MIL-CBM as tensors, read from the columns of its stages."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.columns import Data, Ids, ragged_vectors
from components.method import Fitted
from components.pixels.bags import Bags, build_bags
from components.studies.seg_mil.knobs import SegMilKnobs

IMAGES_AT_ONCE = 2048  # of which the stored segments are in memory, before the bags are cut


@dataclass(frozen=True)
class BagTensors:
    """bags; labels, groups int64 (n,); features float32 (n, N, D); similarities float32 (n, N, K): CLIP
    cosines of segments and concepts; background float32 (n, N), of training bags only: how much of each
    segment attention is kept away from, in [0, 1]."""

    bags: Bags
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    features: Tensor
    similarities: Tensor
    background: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """bool (n, N)."""
        return torch.from_numpy(self.bags.valid)

    @property
    def areas(self) -> Tensor:
        """Shares of the image, float32 (n, N)."""
        return torch.from_numpy(self.bags.areas)


def read_bags(method: SegMilKnobs, data: Data, ids: Ids) -> BagTensors:
    """The bags of these images (all usable) by the method's thresholds."""
    parts = [
        _read_block(method, data, ids[start : start + IMAGES_AT_ONCE])
        for start in range(0, max(len(ids), 1), IMAGES_AT_ONCE)
    ]
    rows = data.rows(ids)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(bags, name) for bags, _, _ in parts])
        for name in ("ids", "segments", "concepts", "scores", "areas", "valid")
    }
    return BagTensors(
        Bags(**joined),  # mixtures have done their work in the features
        data.index.labels[rows],
        data.index.groups[rows],
        torch.cat([features for _, features, _ in parts]),
        torch.cat([similarities for _, _, similarities in parts]),
    )


def chosen_bags(bags: BagTensors, rows: NDArray[np.int64]) -> BagTensors:
    """Only these of the bags."""
    names = ("ids", "segments", "concepts", "scores", "areas", "valid")
    return replace(
        bags,
        bags=replace(bags.bags, **{name: getattr(bags.bags, name)[rows] for name in names}, mixtures=()),
        labels=bags.labels[rows],
        groups=bags.groups[rows],
        features=bags.features[rows],
        similarities=bags.similarities[rows],
        background=None,
    )


@dataclass
class MilFitted(Fitted):
    """What was fitted, and the bags that were read last: results, predictions and pictures of a split ask for
    the same ones. Those of one split at most are held, 4 n N (D + K) bytes, while the trial lasts; they are
    not saved."""

    held: tuple[SegMilKnobs, Data, BagTensors] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def bags(self, method: SegMilKnobs, data: Data, ids: Ids, read: Callable[[], BagTensors]) -> BagTensors:
        """The bags of these images by this method: of those held, else as `read` gives them."""
        if self.held is not None and self.held[0] == method and self.held[1] is data:
            bags = self.held[2]
            if np.array_equal(ids, bags.bags.ids):
                return bags
            if np.isin(ids, bags.bags.ids).all():
                order = np.argsort(bags.bags.ids)
                return chosen_bags(bags, order[np.searchsorted(bags.bags.ids, ids, sorter=order)])
        self.held = None  # so that it is gone while others are read
        bags = read()
        self.held = method, data, bags
        return bags


def _read_block(method: SegMilKnobs, data: Data, ids: Ids) -> tuple[Bags, Tensor, Tensor]:
    images = data["clip_images"].array("embedding", ids)
    texts = np.asarray(data.tensors("clip_texts")["embedding"], np.float32)
    bags = build_bags(ids, data["segments"], data["clip_segments"], images, texts, method.rules)
    embeddings = bags.gather(*_stored(data, "clip_segments", "embedding", ids), images)
    whole = data["images"].array("features", ids)
    features = bags.gather(*_stored(data, "features", "features", ids), whole)
    return bags, torch.from_numpy(features), torch.from_numpy(embeddings @ texts.T)


def _stored(data: Data, name: str, field: str, ids: Ids) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return ragged_vectors(data[name].read(ids, [field])[field])
