"""Bags of SEG-MIL-CBM as tensors, read from the columns of its stages."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.bags import Bags, build_bags
from components.data import Data, Ids, ragged_vectors

if TYPE_CHECKING:
    from components.methods.seg_mil_cbm import SegMilCbm

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


def read_bags(method: "SegMilCbm", data: Data, ids: Ids) -> BagTensors:
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


def _read_block(method: "SegMilCbm", data: Data, ids: Ids) -> tuple[Bags, Tensor, Tensor]:
    images = data["clip_images"].array("embedding", ids)
    texts = np.asarray(data.tensors("clip_texts")["embedding"], np.float32)
    bags = build_bags(ids, data["segments"], data["clip_segments"], images, texts, method.rules)
    embeddings = bags.gather(*_stored(data, "clip_segments", "embedding", ids), images)
    whole = data["images"].array("features", ids)
    features = bags.gather(*_stored(data, "features", "features", ids), whole)
    return bags, torch.from_numpy(features), torch.from_numpy(embeddings @ texts.T)


def _stored(data: Data, name: str, field: str, ids: Ids) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return ragged_vectors(data[name].read(ids, [field])[field])
