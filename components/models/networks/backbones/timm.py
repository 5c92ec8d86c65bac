"""Architectures of timm, with weights from a local file or folder."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.models.networks.backbone import Backbone
from components.models.weights.checkpoints import find_checkpoint

if TYPE_CHECKING:
    from components.models.networks.network import Network

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Timm(Backbone):
    """A timm model, normalising as its own configuration says.

    checkpoint: a folder as timm publishes it (`config.json` and `model.safetensors`), or a file of the
    architecture's state dict;
    architecture: a name of timm's, with or without the tag of its weights, such as
    vit_base_patch16_224.orig_in21k_ft_in1k; null: what the folder says. With a file or without a checkpoint,
    number of classes and normalisation are timm's defaults for it.

    A model without a classifier (DINOv2) has a head that does nothing. Position embeddings of transformers
    are resampled to the size of the images.
    """

    architecture: str | None = None

    def __post_init__(self) -> None:
        if self.architecture is None and self.checkpoint is None:
            raise ValueError("timm needs an architecture, or the folder of a checkpoint")

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        import torch
        from torch import nn

        from components.models.networks.network import taken_apart
        from components.models.weights.loading import read_checkpoint, set_state

        path = None if self.checkpoint is None else find_checkpoint(self.checkpoint)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self._model(path)
            if path is not None:
                weights = path / WEIGHTS if path.is_dir() else path
                set_state(model, read_checkpoint(weights), weights)
            if hasattr(model, "set_input_size"):
                model.set_input_size(img_size=(image_size, image_size))
            network = taken_apart(model, _parts, image_size, str(self.architecture or path))
            if n_classes is not None:
                network.head = nn.Linear(network.width, n_classes)
            return network

    def _model(self, path: Path | None) -> Any:
        """With random weights: timm would fetch others."""
        import timm

        if path is not None and path.is_dir():
            model = _created(f"local-dir:{path}")
            name, tag = model.pretrained_cfg["architecture"], model.pretrained_cfg.get("tag")
            if self.architecture not in (None, name, f"{name}.{tag}"):
                raise ValueError(f"weights {path}: architecture is {name}, not {self.architecture}")
            return model
        if self.architecture is None:
            raise ValueError(f"weights {path}: a file does not say its architecture; name it")
        if not timm.is_model(self.architecture):  # nor a name that timm would look up on the Hub
            near = get_close_matches(self.architecture, timm.list_models())
            raise ValueError(f"timm has no architecture {self.architecture!r}; closest: {near}")
        return _created(self.architecture)


def _created(name: str) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=False)
    except Exception as error:  # an unknown tag, a broken config.json
        raise ValueError(f"timm {name}: {error}") from error


def _parts(model: Any) -> "Network":
    from timm.data import resolve_model_data_config
    from torch import nn

    from components.models.networks.network import Network
    from components.models.networks.trunks import TimmTrunk

    head = model.get_classifier()
    if not isinstance(head, nn.Module):
        raise ValueError("it has several classifiers")
    model.set_submodule(next(name for name, module in model.named_modules() if module is head), nn.Identity())
    trunk = TimmTrunk(model)
    data = resolve_model_data_config(model)
    return Network(
        trunk,
        head,
        model.head_hidden_size,
        (data["mean"], data["std"]),
        trunk.pool,
        getattr(model, "num_prefix_tokens", 0),
        getattr(model, "cls_token", None) is not None,
    )
