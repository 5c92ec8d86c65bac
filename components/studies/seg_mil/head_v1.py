"""SEG-MIL-CBM's first head: concept vectors are pooled. B bags, N segments, K concepts, C classes."""

from typing import ClassVar

from torch import Tensor

from components.studies.seg_mil.head import MilHead, MilOutput, largest


class MilV1(MilHead):
    """logits = W s + b of the pooled concepts s = sum_i alpha_i z_i (docs/methods/seg_mil.md, eqs. 9-12). So
    a segment's evidence is alpha_i W z_i, and b is the offset.

    Maximum pooling takes each concept where it is largest, s_k = max_i z_ik: a segment's evidence is that of
    the concepts taken from it, so the logit is still the sum of evidence and offset, but the evidence is not
    the attention times W z_i. The attention is then the share of concepts that are taken from the segment.
    """

    OF_EACH_CLASS: ClassVar[bool] = False

    def terms(self, output: MilOutput, labels: Tensor) -> Tensor:
        """alpha_i w_yk z_ik."""
        return output.weights * output.concepts * self.classifier.weight[labels][:, None]

    def _pooled(self, concepts: Tensor, attention: Tensor | None, valid: Tensor, areas: Tensor) -> MilOutput:
        weights = largest(concepts, valid) if attention is None else attention
        if attention is None:
            attention = weights.mean(dim=-1, keepdim=True)
        evidence = (weights * concepts) @ self.classifier.weight.T
        offset = self.classifier.bias.expand(len(concepts), -1)
        return MilOutput(evidence.sum(dim=1) + offset, attention, concepts, evidence, offset, weights)
