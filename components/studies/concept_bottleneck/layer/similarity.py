"""The cubed cosine similarity between concepts and CLIP, and its gradient, in blocks
(docs/methods/concept_bottlenecks.md, eq. 8 and eq. 9).

P places (1 where there is no grid), B images, D features, E dimensions of CLIP, M concepts. The similarity is
taken over the images, for each concept and place by itself, so blocks of places and concepts add up to it.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.images import blocks

EPSILON = 1e-12  # of a norm: a constant column has similarity 0
BLOCK_NUMBERS = 2**22  # of one block of activations: bounds memory, whatever B, M and P are

Vectors = NDArray[np.floating]  # (P, B, dimensions), in memory or in a file


def cubed_cosine(q: Tensor, p: Tensor) -> Tensor:
    """Similarity (..., M), in [-1, 1], of activations (..., B, M) over the B images: the cosine of
    (q - mean q)^3 and (p - mean p)^3, cubed by element. 0 where a column is constant."""
    cubes = [_cubed(x) for x in (q, p)]
    norms = [torch.linalg.vector_norm(x, dim=-2).clamp_min(EPSILON) for x in cubes]
    return (cubes[0] * cubes[1]).sum(dim=-2) / (norms[0] * norms[1])


def _cubed(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-2, keepdim=True)
    return centred.square() * centred


def similarities(weight: Tensor, features: Vectors, images: Vectors, texts: Tensor) -> Tensor:
    """Similarity (M,) of the concept layer's activations with CLIP's cosines, the mean over the places.

    weight (M, D) of the layer, features (P, B, D); images (P, B, E) and texts (M, E), unit vectors of CLIP.
    """
    total = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
    with torch.no_grad():
        for q, p, concepts in _activations(weight, features, images, texts):
            total[concepts] += cubed_cosine(q, p).sum(dim=0)
    return total / len(features)


def add_gradient(weight: Tensor, features: Vectors, images: Vectors, texts: Tensor) -> float:
    """Adds the gradient of the loss, minus the mean similarity, to `weight.grad`; returns the loss."""
    loss = 0.0
    for q, p, _ in _activations(weight, features, images, texts):
        part = -cubed_cosine(q, p).sum() / (len(features) * len(weight))
        part.backward()
        loss += part.item()
    return loss


def _activations(
    weight: Tensor, features: Vectors, images: Vectors, texts: Tensor
) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Blocks of the layer's and of CLIP's activations (places, B, concepts), with which concepts they are."""
    n_places, n_images = features.shape[:2]
    widest = max(len(weight), weight.shape[1], texts.shape[1])
    places_at_once = max(1, BLOCK_NUMBERS // (n_images * widest))
    concepts_at_once = max(1, BLOCK_NUMBERS // (n_images * places_at_once))
    for places in blocks(n_places, places_at_once):
        x, y = (torch.from_numpy(array[places]).to(weight) for array in (features, images))
        for concepts in blocks(len(weight), concepts_at_once):
            yield x @ weight[concepts].T, y @ texts[concepts].T, concepts
