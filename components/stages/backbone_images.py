"""A backbone's features of whole images, and a classifier's logits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.stage import Batch, BatchMap, Rows, Tensors, fixed_size_lists
from components.stages.base.network_stage import NetworkStage


@dataclass(frozen=True, kw_only=True)
class BackboneImages(NetworkStage):
    """`features` float32 (F,), pooled; and, where a classifier was trained, `logits` float32 (C,).

    image_size, frame: the square that images become, its side in pixels.
    """

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch

        from components.models.networks.network import to_pixels

        network = self.network(tensors, device)

        def featurise(batch: Batch) -> Rows:
            with torch.inference_mode():
                features = network.features(to_pixels(np.stack(batch.images), device))
                columns = {"features": features}
                if self.classifier is not None:
                    columns["logits"] = network.head(features)
            arrays = {name: fixed_size_lists(value.cpu().numpy()) for name, value in columns.items()}
            return Rows(arrays, len(batch))

        return featurise
