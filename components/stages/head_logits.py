"""A classifier's logits of images whose features are there already."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from components.data.columns import matrix
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors, fixed_size_lists
from components.stages.backbone_images import BackboneImages
from components.stages.classifier_head import ClassifierHead


@dataclass(frozen=True, kw_only=True)
class HeadLogits(ColumnStage):
    """`logits` float32 (C,)."""

    DECODES: ClassVar[bool] = False
    PASSES_A_MODEL: ClassVar[bool] = False

    features: BackboneImages
    classifier: ClassifierHead

    @property
    def batch_size(self) -> int:
        """Many, since each is one product with a vector."""
        return 1024

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        weight, bias = (tensors["classifier"][f"head.{name}"] for name in ("weight", "bias"))

        def classify(batch: Batch) -> Rows:
            logits = matrix(batch.inputs["features"]["features"]) @ weight.T + bias
            return Rows({"logits": fixed_size_lists(logits)}, model_inputs=0)

        return classify
