"""What the concepts of SEG-MIL-CBM's heads are trained towards. B bags, N segments, K concepts."""

import numpy as np
import torch
from torch import Tensor, nn


class ConceptTargets(nn.Module):
    """Targets q (B, N, K) from CLIP cosines (B, N, K).

    `softmax` over concepts at `temperature`; `zscore`: each concept's cosine, standardised by its `mean`
    and `std` (K,) over the training segments (docs/methods/seg_mil.md, eqs. 13-14); `shuffled`: the same, for
    training on `shuffled` cosines.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, kind: str, temperature: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.kind = kind
        self.temperature = temperature

    def forward(self, similarities: Tensor) -> Tensor:
        """The targets of these cosines."""
        if self.kind == "softmax":
            return (similarities / self.temperature).softmax(dim=-1)
        return (similarities - self.mean) / self.std


def shuffled(similarities: Tensor, valid: Tensor, stream: np.random.Generator) -> Tensor:
    """The cosines (B, N, K), each valid segment's exchanged for another's: what a head learns from them
    it has not from the concepts."""
    order = torch.from_numpy(stream.permutation(int(valid.sum())))
    exchanged = similarities.clone()
    exchanged[valid] = similarities[valid][order]
    return exchanged


def concept_cosine(concepts: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid segments of cos(z_i, q_i), in [-1, 1]; L_concept is its negative
    (docs/methods/seg_mil.md, eq. 17)."""
    cosines = nn.functional.cosine_similarity(concepts, targets, dim=-1)
    return torch.where(valid, cosines, 0.0).sum() / valid.sum()


def best_constant_cosine(targets: Tensor, valid: Tensor) -> Tensor:
    """The mean cosine that one constant vector can reach: the length of the targets' mean direction.

    The concept loss has taught something only above this (docs/methods/seg_mil.md, eq. 15).
    """
    units = nn.functional.normalize(targets[valid], dim=-1)
    return units.mean(dim=0).norm()


def names_hold(concepts: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Which concepts are what their names say, bool (K,): over the valid segments, whose concepts and targets
    are made unit vectors, the concept's correlation with the target of its own name is above 0 and above that
    with any other name's. In a layer that was never taught names, each concept has a chance of 1 in K."""
    z, q = (nn.functional.normalize(x[valid].double(), dim=-1) for x in (concepts, targets))
    z, q = (x - x.mean(dim=0) for x in (z, q))
    z, q = (x / x.norm(dim=0).clamp_min(1e-12) for x in (z, q))  # a constant goes with nothing
    correlations = z.T @ q
    own = correlations.diagonal()
    others = correlations.clone().fill_diagonal_(-1.0)
    return (own > 0) & (own > others.max(dim=1).values)


def concept_cosine_above_controls(concepts: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """What the concepts' names are worth: the cosine less the best that one constant vector reaches, or these
    very concepts with their names moved on by 1 to K - 1 places. Of a layer that was never taught its names
    it is above 0 once in K times.

    The cosines with all moves are one circular correlation of unit vectors, so their cost grows as K log K.
    """
    z, q = (torch.fft.rfft(nn.functional.normalize(x[valid], dim=-1)) for x in (concepts, targets))
    cosines = torch.fft.irfft((z.conj() * q).mean(dim=0), n=concepts.shape[-1])
    return cosines[0] - torch.cat([cosines[1:], best_constant_cosine(targets, valid)[None]]).max()
