"""SEG-MIL-CBM's second head: evidence is pooled. B bags, N segments, K concepts, C classes."""

from typing import Any, ClassVar

from torch import Tensor

from components.studies.seg_mil.head import MilHead, MilOutput, largest, of_class


class MilV2(MilHead):
    """logit_y = sum_i alpha_iy eta_i (w_y z_i + b_y) (docs/methods/seg_mil.md, eqs. 3-8). So a segment's
    evidence is alpha_iy eta_i w_y z_i, and the offset sum_i alpha_iy eta_i b_y.

    eta_i = max(area_i, area_floor)^-area_exponent, rescaled to a mean of 1 over the bag's valid segments: the
    smaller, the heavier. Maximum pooling puts all of alpha_iy on the segment with the largest
    eta_i (w_y z_i + b_y), which is then the logit.
    """

    OF_EACH_CLASS: ClassVar[bool] = True

    def __init__(self, *given: Any, area_exponent: float, area_floor: float, **shared: Any) -> None:
        super().__init__(*given, **shared)
        self.area_exponent = area_exponent
        self.area_floor = area_floor

    def terms(self, output: MilOutput, labels: Tensor) -> Tensor:
        """alpha_iy eta_i w_yk z_ik."""
        weights = of_class(output.weights, labels)[..., None]
        return weights * output.concepts * self.classifier.weight[labels][:, None]

    def area_weights(self, valid: Tensor, areas: Tensor) -> Tensor:
        """eta (B, N), zero where invalid."""
        weights = valid * areas.clamp_min(self.area_floor) ** -self.area_exponent
        return weights * valid.sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)

    def _pooled(self, concepts: Tensor, attention: Tensor | None, valid: Tensor, areas: Tensor) -> MilOutput:
        per_segment = concepts @ self.classifier.weight.T
        eta = self.area_weights(valid, areas)[..., None]
        if attention is None:
            attention = largest(eta * (per_segment + self.classifier.bias), valid)
        weights = attention * eta
        evidence = weights * per_segment
        offset = weights.sum(dim=1) * self.classifier.bias
        return MilOutput(evidence.sum(dim=1) + offset, attention, concepts, evidence, offset, weights)
