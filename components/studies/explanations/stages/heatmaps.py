"""Which pixels speak for the class that a network predicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.columns import Column
from components.stage import Batch, BatchMap, Rows, Tensors, Yield, fixed_size_lists
from components.stages.base.finds import MOST_EMPTY
from components.stages.base.network_stage import NetworkStage
from components.studies.explanations.attribution import Attribution


@dataclass(frozen=True, kw_only=True)
class Heatmaps(NetworkStage):
    """`label` int32, the predicted class; `probability` float32 of it; `heatmap` float16 (S S,), row by row
    of the square, larger is more evidence, scaled so that its largest absolute value is 1; `scale` float32,
    what that was: `heatmap * scale` is the attribution's own. Where nothing speaks for the class all are 0.

    backbone: computes in fp32, whatever its precision elsewhere: gradients and relevances need it;
    classifier: whose weights it has; None: its own checkpoint's, and its own head;
    image_size, frame: the square that images become, S pixels a side.

    An image with a logit or a heatmap that is not finite fails.
    """

    attribution: Attribution

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", replace(self.backbone, precision="fp32"))

    @property
    def batch_size(self) -> int:
        return 16

    def describe(self, column: Column) -> Yield:
        """The share of heatmaps that are one value everywhere, and a warning above MOST_EMPTY of them."""
        scales = column.read(column.ids, ["scale"])["scale"].to_numpy()
        empty = float((scales == 0).mean()) if len(scales) else 0.0
        text = f"{empty:.0%} of the heatmaps say nothing"
        return Yield({"empty_share": empty}, text, text if empty > MOST_EMPTY else "")

    def load(self, tensors: Mapping[str, Tensors], device: str) -> BatchMap:
        import torch

        from components.models.networks.network import to_pixels

        network = self.target(tensors, device)
        self.attribution.check(network)
        passes = 0

        def count(head: Any, inputs: tuple[torch.Tensor]) -> None:
            nonlocal passes
            passes += len(inputs[0])

        network.head.register_forward_pre_hook(count)  # which every pass ends with, in parts or whole

        def explain(batch: Batch) -> Rows:
            before, images = passes, np.stack(batch.images)
            with torch.no_grad():  # what a network keeps of inference mode has no gradients
                probabilities = network(to_pixels(images, device)).softmax(1)
                probability, label = (x.cpu().numpy() for x in probabilities.max(1))
            if not np.isfinite(probability).all():
                raise ValueError("a logit is not finite")
            heatmaps = self.attribution.explain(network, images, label).reshape(len(batch), -1)
            scale = np.abs(heatmaps).max(axis=1)
            scaled = heatmaps / np.where(scale > 0, scale, 1)[:, None]
            columns = {
                "label": pa.array(label.astype(np.int32)),
                "probability": pa.array(probability),
                "heatmap": fixed_size_lists(scaled.astype(np.float16)),
                "scale": pa.array(scale),
            }
            return Rows(columns, passes - before)

        return explain
