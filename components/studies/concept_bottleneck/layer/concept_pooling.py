"""From concept maps to one number per concept, standardised: what the final layer reads
(docs/methods/concept_bottlenecks.md, "Pooling" and eq. 12).

P cells of a map (1 where there is no grid), D features, K concepts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from components.data.columns import Column, Ids
from components.data.images import DataError, blocks

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Pool = Literal["mean", "softmax", "max", "topk"]
KEEP_ALL = -1.0  # a cutoff of cosines and similarities that drops nothing
LEAST_DEVIATION = 1e-12
ROWS_AT_ONCE = 4096
RESOLUTION = 4 * float(np.finfo(np.float32).eps)  # of a deviation, relative to the mean


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How a map (P cells) becomes one number: its mean, its maximum, the mean of its `cells` largest, or its
    sum weighted by the softmax of map / temperature, as in SALF-CBM's released model."""

    kind: Pool = "softmax"
    temperature: Annotated[float, Gt(0)] = 1.0
    cells: Annotated[int, Ge(1)] = 5

    def __call__(self, maps: "Tensor") -> "Tensor":
        """(n, P, K) -> (n, K)."""
        if self.kind == "mean":
            return maps.mean(dim=1)
        if self.kind == "max":
            return maps.amax(dim=1)
        if self.kind == "topk":
            return maps.topk(min(self.cells, maps.shape[1]), dim=1).values.mean(dim=1)
        return ((maps / self.temperature).softmax(dim=1) * maps).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """Features to standardised concepts: weight (K, D); mean and std (K,) of the pooled concepts over the
    training images, std unbiased and never 0 (a concept that is constant there gets 1, and so is 0)."""

    weight: Floats
    mean: Floats
    std: Floats
    pooling: Pooling
    grid_size: int | None = None

    def concepts(self, features: Column, ids: Ids, device: str = "cpu") -> Floats:
        """Standardised concepts (n, K) of images."""
        return self.standardised(_pooled(features, ids, self.weight, self.pooling, self.grid_size, device)[0])

    def standardised(self, pooled: Floats) -> Floats:
        """Pooled concepts (n, K), which are overwritten."""
        pooled -= self.mean
        pooled /= self.std
        return pooled

    def maps(self, features: Column, ids: Ids) -> Floats:
        """Raw concept maps (n, K, P) of a few images, before pooling."""
        parts = [maps.numpy() for _, maps in concept_maps(features, ids, self.weight, self.grid_size)]
        return np.concatenate(parts).transpose(0, 2, 1)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a new one can be made of, beside the pooling and the grid."""
        return {"concept_weight": self.weight, "mean": self.mean, "std": self.std}


def fit_bottleneck(
    features: Column,
    ids: Ids,
    weight: Floats,
    pooling: Pooling,
    grid_size: int | None = None,
    unit_maps: bool = False,
    device: str = "cpu",
) -> tuple[Bottleneck, Floats, Floats]:
    """The bottleneck of a concept layer, the standardised concepts (n, K) of the training images `ids`, and
    the deviation (K,) of each concept's map over images and cells, which says how sharp a softmax of it is.

    unit_maps: the layer's rows are scaled first, so that these deviations are 1 (the cubed cosine leaves the
    scale free). Raises DataError without images or without concepts.
    """
    if len(ids) == 0:
        raise DataError("no training image went through every stage")
    if len(weight) == 0:
        raise DataError("no concept is left: lower clip_cutoff or interpretability_cutoff")
    pooled, moments = _pooled(features, ids, weight, pooling, grid_size, device)
    if unit_maps:
        weight = weight / _safe(*moments)[:, None]
        pooled, moments = _pooled(features, ids, weight, pooling, grid_size, device)
    mean = pooled.mean(axis=0, dtype=np.float64)
    squares = sum(np.square(pooled[rows] - mean).sum(axis=0) for rows in blocks(len(ids), ROWS_AT_ONCE))
    std = _safe(mean, np.sqrt(squares / max(len(ids) - 1, 1)))
    bottleneck = Bottleneck(
        weight=weight, mean=mean.astype(np.float32), std=std, pooling=pooling, grid_size=grid_size
    )
    return bottleneck, bottleneck.standardised(pooled), moments[1].astype(np.float32)


def _safe(mean: NDArray[np.float64], std: NDArray[np.float64]) -> Floats:
    """1 in place of a deviation that is 0, or no more than the mean's rounding."""
    least = np.maximum(LEAST_DEVIATION, RESOLUTION * np.abs(mean))
    return np.where(std > least, std, 1.0).astype(np.float32)


def _pooled(
    features: Column, ids: Ids, weight: Floats, pooling: Pooling, grid_size: int | None, device: str
) -> tuple[Floats, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pooled concepts (n, K), raw; and mean and deviation (K,) of the maps over images and cells. Maps exist
    for a block of images at a time."""
    import torch

    pooled = np.zeros((len(ids), len(weight)), np.float32)
    total, squares, count = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(3))
    for rows, maps in concept_maps(features, ids, weight, grid_size, device):
        pooled[rows] = pooling(maps).cpu().numpy()
        total = total + maps.sum(dim=(0, 1), dtype=torch.float64)
        squares = squares + maps.square().sum(dim=(0, 1), dtype=torch.float64)
        count += maps.shape[0] * maps.shape[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    return pooled, (mean.cpu().numpy(), deviation.cpu().numpy())


def concept_maps(
    features: Column, ids: Ids, weight: Floats, grid_size: int | None = None, device: str = "cpu"
) -> "Iterator[tuple[slice, Tensor]]":
    """Raw concept maps in blocks of images: which rows of `ids`, and (n, P, K) of them on the device."""
    import torch

    from components.studies.concept_bottleneck.layer.place_vectors import place_vectors
    from components.studies.concept_bottleneck.layer.similarity import BLOCK_NUMBERS

    layer = torch.from_numpy(weight).to(device)
    for rows, vectors in place_vectors(features, ids, grid_size):
        at_once = max(1, BLOCK_NUMBERS // (vectors.shape[1] * max(weight.shape)))
        for start in range(0, len(vectors), at_once):
            x = torch.from_numpy(vectors[start : start + at_once].astype(np.float32)).to(device)
            first = rows.start + start
            yield slice(first, first + len(x)), x @ layer.T


def concept_layer_weights(tensors: Mapping[str, NDArray[Any]], cutoff: float) -> Floats:
    """The layer's rows (K, D) that are kept, in the vocabulary's order; of CLIP's own texts, all."""
    kept = kept_concepts(tensors, cutoff)
    return tensors["weight" if "weight" in tensors else "embedding"][kept]


def kept_concepts(tensors: Mapping[str, NDArray[Any]], cutoff: float) -> NDArray[np.bool_]:
    """Which concepts of the vocabulary are kept, (M,): those that the layer was trained for, with a
    similarity on held-out images above the cutoff."""
    if "weight" not in tensors:
        return np.ones(len(tensors["embedding"]), dtype=bool)
    trained = tensors["trained"].astype(bool)
    return trained & ((cutoff == KEEP_ALL) | (tensors["similarity"] > cutoff))
