"""CLIP: which checkpoint, and the embeddings that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.checkpoints import find_checkpoint

if TYPE_CHECKING:
    import torch

IMAGES_AT_ONCE = 256  # bounds the memory of one forward pass, whatever the number of segments


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP checkpoint: a folder in open_clip's own form (`open_clip_config.json` and
    `open_clip_model.safetensors`), so that preprocessing comes from the model's config.

    precision: of the forward pass; embeddings are stored as float32, of length 1.
    """

    checkpoint: str = "clip-vit-b-32"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def load(self, device: str) -> "ClipModel":
        """The model in evaluation mode; MissingWeights if the checkpoint is not there."""
        return ClipModel(self, device)


class ClipModel:
    """A loaded CLIP. Counts the images that its image tower has seen in `images_seen`."""

    def __init__(self, clip: Clip, device: str) -> None:
        import open_clip
        import torch

        name = f"local-dir:{find_checkpoint(clip.checkpoint)}"
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[clip.precision]
        model, _, self._preprocess = open_clip.create_model_and_transforms(
            name, require_pretrained=True, device=device
        )
        self._model = model.eval().to(self.dtype)
        self._tokenize = open_clip.get_tokenizer(name)
        self.device = device
        self.images_seen = 0

    @cached_property
    def size(self) -> int:
        """Side of the square that the image tower takes, in pixels."""
        size = self._model.visual.image_size
        return int(size[0] if isinstance(size, tuple) else size)

    @cached_property
    def _statistics(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        shape = (1, 3, 1, 1)
        mean, std = self._model.visual.image_mean, self._model.visual.image_std
        return torch.tensor(mean).view(shape), torch.tensor(std).view(shape)

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit vectors float32 (B, D) of images uint8 (H, W, 3), by the model's own preprocessing."""
        import torch

        pixels = torch.stack([self._preprocess(Image.fromarray(image)) for image in images])
        return self._embed(pixels)

    def embed_squares(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (B, D) of crops uint8 (B, size, size, 3) that need no resizing any more."""
        import torch

        mean, std = self._statistics
        parts = torch.from_numpy(squares).permute(0, 3, 1, 2).split(IMAGES_AT_ONCE)
        return np.concatenate([self._embed((part.float().div(255) - mean) / std) for part in parts])

    def _embed(self, pixels: "torch.Tensor") -> NDArray[np.float32]:
        import torch

        self.images_seen += len(pixels)
        with torch.inference_mode():
            parts = pixels.to(self.device, self.dtype).split(IMAGES_AT_ONCE)
            return _unit(torch.cat([self._model.encode_image(part) for part in parts]))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (K, D)."""
        import torch

        tokens: Any = self._tokenize(list(texts)).to(self.device)
        with torch.inference_mode():
            return _unit(self._model.encode_text(tokens))


def _unit(vectors: "torch.Tensor") -> NDArray[np.float32]:
    """Of length 1 in float32, whatever the precision of the model."""
    from torch.nn.functional import normalize

    return normalize(vectors.float(), dim=-1).cpu().numpy()
