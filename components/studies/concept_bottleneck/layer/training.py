"""Training of a concept layer: a bias-free linear map of features to concepts that agrees with CLIP
(docs/methods/concept_bottlenecks.md, "Concept layer").

P places, N images, D features, E dimensions of CLIP, M concepts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.data.columns import Column, Ids
from components.data.images import DataError, blocks
from components.studies.concept_bottleneck.layer.place_vectors import place_vectors
from components.studies.concept_bottleneck.layer.similarity import (
    BLOCK_NUMBERS,
    Vectors,
    add_gradient,
    similarities,
)

CHECK_EVERY = 50  # steps between looks at the held-out images
TOP_IMAGES = 5  # over which the CLIP cutoff averages (docs/methods/concept_bottlenecks.md, eq. 2)


@dataclass(frozen=True)
class Pairs:
    """What the layer sees and what CLIP sees of the same images: features (P, N, D), images (P, N, E)."""

    features: Vectors
    images: Vectors

    def __len__(self) -> int:
        return self.features.shape[1]

    def rows(self, chosen: NDArray[np.int64]) -> "Pairs":
        """These images, copied."""
        return Pairs(self.features[:, chosen], self.images[:, chosen])

    def flattened(self) -> "Pairs":
        """All images' places as images of one place: (1, P N, ...). In memory, as a whole."""
        return Pairs(*(x.reshape(1, -1, x.shape[2]) for x in (self.features, self.images)))


@dataclass(frozen=True, kw_only=True)
class Adam:
    """How the layer is trained: `steps` at most, each on `batch_size` images drawn afresh."""

    learning_rate: float
    batch_size: int
    steps: int
    across_places: bool  # the similarity over images and places together


def read_pairs(features: Column, images: Column, ids: Ids, grid_size: int | None, folder: Path) -> Pairs:
    """The pairs of these images, place by place in files of the new `folder`, so that memory holds a block of
    images only; what the files take on disk is the size of both columns."""
    folder.mkdir()
    return Pairs(
        _by_place(features, ids, grid_size, folder / "features"),
        _by_place(images, ids, None, folder / "images"),
    )


def _by_place(column: Column, ids: Ids, grid_size: int | None, path: Path) -> Vectors:
    stored: Vectors | None = None
    for rows, block in place_vectors(column, ids, grid_size):
        if stored is None:
            shape = (block.shape[1], len(ids), block.shape[2])
            stored = np.memmap(path, dtype=block.dtype, mode="w+", shape=shape)
        stored[:, rows] = block.transpose(1, 0, 2)
    if stored is None:
        raise DataError("no image to train a concept layer on, or to look at")
    return stored


def train_concept_layer(
    train: Pairs,
    held_out: Pairs,
    texts: NDArray[np.float32],
    how: Adam,
    stream: np.random.Generator,
    device: str,
    report: Callable[..., None],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (M, D) of the layer, and each concept's similarity (M,) on the held-out images.

    Adam on minus the mean similarity; the weights are those of the best look at the held-out images, and the
    first look that is no better ends it. Raises FloatingPointError when the loss stops being finite.
    """
    concepts = torch.from_numpy(texts).to(device)
    generator = torch.Generator().manual_seed(int(stream.integers(2**31)))
    bound = train.features.shape[2] ** -0.5  # as PyTorch's Linear begins
    start = (2 * torch.rand(len(texts), train.features.shape[2], generator=generator) - 1) * bound
    weight = start.to(device).requires_grad_()
    optimizer = torch.optim.Adam([weight], how.learning_rate)
    best, best_loss = weight.detach().clone(), float("inf")
    checked = held_out.flattened() if how.across_places else held_out
    for step in range(1, how.steps + 1):
        batch = _batch(train, how.batch_size, stream)
        if how.across_places:
            batch = batch.flattened()
        optimizer.zero_grad()
        loss = add_gradient(weight, batch.features, batch.images, concepts)
        if not np.isfinite(loss):
            raise FloatingPointError(f"loss is {loss} at step {step}")
        optimizer.step()
        if step % CHECK_EVERY and step < how.steps:
            continue
        held_out_loss = -float(similarities(weight, checked.features, checked.images, concepts).mean())
        report(step, train_loss=loss, val_loss=held_out_loss)
        if not held_out_loss < best_loss:
            break
        best, best_loss = weight.detach().clone(), held_out_loss
    found = similarities(best, checked.features, checked.images, concepts)
    return best.cpu().numpy(), found.cpu().numpy()


def _batch(pairs: Pairs, size: int, stream: np.random.Generator) -> Pairs:
    if size >= len(pairs):
        return pairs
    return pairs.rows(np.sort(stream.choice(len(pairs), size, replace=False)))


def top_cosines(images: Column, ids: Ids, texts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean (M,) of each concept's TOP_IMAGES largest cosines with whole images; of all, if they are fewer."""
    top = np.zeros((0, len(texts)), np.float32)
    for _, vectors in place_vectors(images, ids):
        for part in blocks(len(vectors), max(1, BLOCK_NUMBERS // len(texts))):
            cosines = np.concatenate([top, vectors[part, 0].astype(np.float32) @ texts.T])
            top = -np.sort(-cosines, axis=0)[:TOP_IMAGES]
    return top.mean(axis=0)
