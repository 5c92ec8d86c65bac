"""What SEG-MIL-CBM's heads have in common, and what they give.

B bags, N segments, D features, H attention units, K concepts, C classes; A = 1 attention for all classes (v1)
or A = C, one for each (v2).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from components.studies.seg_mil.targets import ConceptTargets


@dataclass(frozen=True)
class MilOutput:
    """logits (B, C); attention (B, N, A), which sums to 1 over the segments; concepts z (B, N, K).

    evidence (B, N, C): what each segment adds to each logit, without any bias; offset (B, C): the rest.
    logits == evidence.sum(1) + offset, for every head and pooling.
    weights (B, N, A), or (B, N, K) for v1 with maximum pooling: by what a segment's concepts are multiplied
    before the classifier reads them; the attention, times the area weight in v2.
    All float32, zero where a segment is invalid.
    """

    logits: Tensor
    attention: Tensor
    concepts: Tensor
    evidence: Tensor
    offset: Tensor
    weights: Tensor


class MilHead(nn.Module):
    """h = the scaled features; z_i = W_c h_i + b_c (docs/methods/seg_mil.md, eqs. 1-2); then one head of two.

    scaling: `zscore` by `mean` and `std` (D,), those of the training segments' features; `layer_norm` over
    the features of each segment, without weights of its own; `none`.
    pooling: `attention`, a softmax over valid segments of u_y tanh(V h_i + d) / temperature, with
    a row u_y for each attention (a bias e_y would cancel); `mean`, 1/n; `max`, see the heads.
    `targets` are what the concepts z are trained towards; the logits do not read them.
    """

    OF_EACH_CLASS: ClassVar[bool]  # whether A = C
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        targets: ConceptTargets,
        n_classes: int,
        *,
        hidden: int,
        temperature: float,
        pooling: str,
        scaling: str,
    ) -> None:
        super().__init__()
        width, n_concepts = len(mean), len(targets.mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.targets = targets
        self.attentions = n_classes if self.OF_EACH_CLASS else 1
        self.temperature = temperature
        self.pooling = pooling
        self.scaling = scaling
        self.concept_layer = nn.Linear(width, n_concepts)
        if pooling == "attention":
            self.attention_hidden = nn.Linear(width, hidden)
            self.attention_score = nn.Linear(hidden, self.attentions, bias=False)
        self.classifier = nn.Linear(n_concepts, n_classes)

    def forward(self, features: Tensor, valid: Tensor, areas: Tensor) -> MilOutput:
        """features (B, N, D), valid bool (B, N), areas (B, N), shares of the image in (0, 1].

        ValueError if a bag has no valid segment.
        """
        return self.pool(*self.read(features), valid, areas)

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Each segment by itself: concepts (B, N, K) and attention scores (B, N, A), which without attention
        are all equal."""
        h = self._scaled(features)
        concepts = self.concept_layer(h)
        if self.pooling != "attention":
            return concepts, concepts.new_zeros(*concepts.shape[:2], self.attentions)
        return concepts, self.attention_score(torch.tanh(self.attention_hidden(h))) / self.temperature

    def pool(self, concepts: Tensor, scores: Tensor, valid: Tensor, areas: Tensor) -> MilOutput:
        """The bags of segments that were read; ValueError if one has no valid segment."""
        if not valid.any(dim=1).all():
            raise ValueError("a bag has no valid segment")
        attention = None
        if self.pooling != "max":
            attention = scores.masked_fill(~valid[..., None], -torch.inf).softmax(dim=1)
        return self._pooled(concepts.masked_fill(~valid[..., None], 0.0), attention, valid, areas)

    @torch.no_grad()
    def rescale(self, mean: Tensor, std: Tensor) -> None:
        """From now on features are standardised by these moments (D,), and the layers that read them are
        turned so that the output is what it was: with h = (x - mean) / std, W h + b stays the same function
        of x. Nothing happens where `scaling` does not read moments."""
        if self.scaling != "zscore":
            return
        layers = [self.concept_layer]
        if self.pooling == "attention":
            layers.append(self.attention_hidden)
        for layer in layers:
            layer.bias.add_(layer.weight @ ((mean - self.mean) / self.std))
            layer.weight.mul_(std / self.std)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def terms(self, output: MilOutput, labels: Tensor) -> Tensor:
        """Segment x concept shares (B, N, K) of the evidence for class labels[b] of each bag, int64 (B,):
        their sum over concepts is evidence[b, :, labels[b]]."""
        raise NotImplementedError

    def _pooled(self, concepts: Tensor, attention: Tensor | None, valid: Tensor, areas: Tensor) -> MilOutput:
        raise NotImplementedError

    def _scaled(self, features: Tensor) -> Tensor:
        if self.scaling == "zscore":
            return (features - self.mean) / self.std
        if self.scaling == "layer_norm":
            return nn.functional.layer_norm(features, features.shape[-1:])
        return features


def of_class(per_class: Tensor, labels: Tensor) -> Tensor:
    """The values (B, N) of class labels[b], of (B, N, C), or of (B, N, 1), which holds for all classes."""
    if per_class.shape[-1] == 1:
        return per_class[..., 0]
    return per_class[torch.arange(len(labels), device=labels.device), :, labels]


def largest(values: Tensor, valid: Tensor) -> Tensor:
    """1 where a valid segment has the largest of the values (B, N, V), the first of equals; else 0."""
    best = values.masked_fill(~valid[..., None], -torch.inf).argmax(dim=1, keepdim=True)
    return torch.zeros_like(values).scatter_(1, best, 1.0)
