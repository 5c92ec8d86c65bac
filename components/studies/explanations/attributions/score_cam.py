"""ScoreCAM (Wang et al., CVPR workshops 2020), by the package grad-cam."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from components.studies.explanations.attribution import Attribution, Heatmaps, Images, Labels

if TYPE_CHECKING:
    from components.studies.explanations.explained_network import ExplainedNetwork


@dataclass(frozen=True, kw_only=True)
class ScoreCam(Attribution):
    """The channels of the network's last map, each weighted by the logit of the image that it lets through,
    softmax over the channels; rectified and scaled to [0, 1]. One forward pass for each channel (ResNet-50:
    2048) and no gradient; what a channel hides has the mean colour."""

    def _heatmaps(self, model: "ExplainedNetwork", images: Images, labels: Labels) -> Heatmaps:
        import numpy as np
        import torch
        from pytorch_grad_cam import ScoreCAM, score_cam  # type: ignore[import-untyped]

        from components.studies.explanations.explained_network import PASSES_AT_ONCE, activation_maps

        class InBlocks(ScoreCAM):
            batch_size = PASSES_AT_ONCE

        score_cam.tqdm = SimpleNamespace(tqdm=iter)  # no progress bar for every image
        with torch.no_grad():  # the package holds all masked forms of its batch: one image at a time
            maps = [
                activation_maps(InBlocks, model, [model.last_map], x[None], [label])
                for x, label in zip(model.normalised(images), labels, strict=True)
            ]
        return np.concatenate(maps)
