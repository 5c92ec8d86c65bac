"""SEG-MIL-CBM's first head. B bags, N segments, D features, H attention units, K concepts, C classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MilOutput:
    """logits (B, C); attention (B, N), rows sum to 1; concepts z (B, N, K). Zero where invalid."""

    logits: Tensor
    attention: Tensor
    concepts: Tensor


class ConceptTargets(nn.Module):
    """Targets q (B, N, K) from CLIP cosines (B, N, K).

    `softmax` over concepts at `temperature`; `zscore`: each concept's cosine, standardised by its `mean`
    and `std` (K,) over the training segments (A6).
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


class MilV1(nn.Module):
    """z_i = W_c h_i + b_c; e_i = u tanh(V h_i + d); alpha = softmax(e / tau) over valid segments;
    logits = W sum_i alpha_i z_i + b (spec of SEG-MIL-CBM, A5).

    h is standardised by `mean` and `std` (D,) of the training segments' features. `targets` are what the
    concepts z are trained towards; the logits do not read them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        targets: ConceptTargets,
        n_classes: int,
        hidden: int,
        temperature: float,
    ) -> None:
        super().__init__()
        width, n_concepts = len(mean), len(targets.mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.targets = targets
        self.temperature = temperature
        self.concept_layer = nn.Linear(width, n_concepts)
        self.attention_hidden = nn.Linear(width, hidden)
        self.attention_score = nn.Linear(hidden, 1, bias=False)
        self.classifier = nn.Linear(n_concepts, n_classes)

    def forward(self, features: Tensor, valid: Tensor) -> MilOutput:
        """features (B, N, D), valid bool (B, N). ValueError if a bag has no valid segment."""
        if not valid.any(dim=1).all():
            raise ValueError("a bag has no valid segment")
        h = (features - self.mean) / self.std
        concepts = self.concept_layer(h)
        scores = self.attention_score(torch.tanh(self.attention_hidden(h)))[..., 0]
        scores = (scores / self.temperature).masked_fill(~valid, -torch.inf)
        attention = scores.softmax(dim=1)
        concepts = concepts.masked_fill(~valid[..., None], 0.0)
        pooled = torch.einsum("bn,bnk->bk", attention, concepts)
        return MilOutput(self.classifier(pooled), attention, concepts)


def concept_cosine(concepts: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid segments of cos(z_i, q_i), in [-1, 1]; L_concept is its negative (A6)."""
    cosines = nn.functional.cosine_similarity(concepts, targets, dim=-1)
    return (cosines * valid).sum() / valid.sum()


def best_constant_cosine(targets: Tensor, valid: Tensor) -> Tensor:
    """The mean cosine that one constant vector can reach: the length of the targets' mean direction.

    The concept loss has taught something only above this (A6, the trivial-solution hazard).
    """
    units = nn.functional.normalize(targets[valid], dim=-1)
    return units.mean(dim=0).norm()
