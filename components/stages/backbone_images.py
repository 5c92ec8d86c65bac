"""A backbone's features of whole images, and a classifier's logits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.images import resized
from components.models.backbone import Backbone
from components.stage import Batch, BatchMap, ColumnStage, Rows, Tensors, fixed_size_lists
from components.stages.classifier import Classifier, load_network


@dataclass(frozen=True, kw_only=True)
class BackboneImages(ColumnStage):
    """`features` float32 (D,), pooled; and, where a classifier was trained, `logits` float32 (C,).

    image_size: side in pixels of the square that images are resized to.
    """

    backbone: Backbone
    classifier: Classifier | None
    image_size: int

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch

        from components.models.network import to_pixels

        network = load_network(self.backbone, self.classifier, tensors, self.image_size, device)

        def featurise(batch: Batch) -> Rows:
            squares = np.stack([resized(image, self.image_size) for image in batch.images])
            with torch.inference_mode():
                features = network.features(to_pixels(squares, device))
                columns = {"features": features}
                if self.classifier is not None:
                    columns["logits"] = network.head(features)
            arrays = {name: fixed_size_lists(value.cpu().numpy()) for name, value in columns.items()}
            return Rows(arrays, len(batch))

        return featurise
