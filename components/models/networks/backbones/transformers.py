"""Vision transformers of the library transformers, with weights from a local folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from components.models.networks.backbone import Backbone
from components.models.networks.statistics import CENTRED, IMAGENET, Statistics
from components.models.weights.checkpoints import find_checkpoint

if TYPE_CHECKING:
    from components.models.networks.network import Network

MODELS = {
    "vit": "ViTForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
}


@dataclass(frozen=True, kw_only=True)
class Transformers(Backbone):
    """ViT, whose head reads the class token, or DINOv2, whose head reads the class token and the mean of the
    patches.

    checkpoint: a folder as `save_pretrained` writes it; it normalises as its `preprocessor_config.json` says,
    or without one as the architecture was trained;
    depth: blocks of a network without a checkpoint, which is else of base size.

    DINOv2 resamples its position embeddings to the size of the images; ViT takes the size of its checkpoint.
    """

    architecture: Literal["vit", "dinov2", "dinov2_with_registers"] = "vit"
    depth: Annotated[int, Ge(1)] = 12

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        import torch
        import transformers
        from torch import nn

        from components.models.networks.network import taken_apart
        from components.models.networks.transformers_trunk import Logits
        from components.models.weights.loading import load_folder

        path = None if self.checkpoint is None else find_checkpoint(self.checkpoint)
        kind = getattr(transformers, MODELS[self.architecture])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if path is None:
                size = {"image_size": image_size, "patch_size": 16 if self.architecture == "vit" else 14}
                model = kind(kind.config_class(num_hidden_layers=self.depth, **size))
            else:
                model = load_folder(kind, path, torch.float32)
            name, patch = str(path or self.architecture), model.config.patch_size
            if image_size % patch:  # the library would leave the rest of the image out, without a word
                raise ValueError(f"{name}: {image_size} pixels are no multiple of its patches' {patch}")
            network = taken_apart(
                Logits(model), lambda whole: _parts(whole, self._statistics(path)), image_size, name
            )
            if n_classes is not None:
                network.head = nn.Linear(network.width, n_classes)
            return network

    def _statistics(self, folder: Path | None) -> Statistics:
        file = None if folder is None else folder / "preprocessor_config.json"
        if file is None or not file.is_file():
            return CENTRED if self.architecture == "vit" else IMAGENET
        told = json.loads(file.read_text())
        return tuple(told["image_mean"]), tuple(told["image_std"])


def _parts(whole: Any, statistics: Statistics) -> "Network":
    from components.models.networks.network import Network
    from components.models.networks.transformers_trunk import ClassTokenAndMean, TransformersTrunk
    from components.models.networks.trunks import FirstToken

    model = whole.model
    head = model.classifier
    prefix = 1 + getattr(model.config, "num_register_tokens", 0)
    pool = FirstToken() if model.config.model_type == "vit" else ClassTokenAndMean(prefix)
    return Network(
        TransformersTrunk(model.base_model),
        head,
        head.in_features,
        statistics,
        pool,
        prefix,
        has_class_token=True,
    )
