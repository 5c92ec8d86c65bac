"""An open_clip model while it is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainedClip:
    """The model with the way to prepare its inputs. N: images, S: side in pixels, D: features."""

    model: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    mean: Sequence[float]
    std: Sequence[float]

    def pixels(self, squares: NDArray[np.uint8]) -> torch.Tensor:
        """Images uint8 (N, S, S, 3) as the model's input, float32 (N, 3, S, S)."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255 - mean) / std

    def embed(self, squares: NDArray[np.uint8]) -> torch.Tensor:
        """Unit vectors (N, D) of images uint8 (N, S, S, 3), with gradients."""
        return torch.as_tensor(self.model.encode_image(self.pixels(squares), normalize=True))

    @torch.inference_mode()
    def embed_squares(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of images uint8 (N, S, S, 3)."""
        blocks = (squares[i : i + 256] for i in range(0, len(squares), 256))
        return np.asarray(torch.cat([self.embed(block) for block in blocks]).numpy())

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (T, D)."""
        coded = self.model.encode_text(self.tokenizer(list(texts)), normalize=True)
        return np.asarray(coded.numpy())


def load_clip(folder: Path) -> TrainedClip:
    """A checkpoint in open_clip's own form, in evaluation mode, with its own preprocessing."""
    name = f"local-dir:{folder}"
    model, _, _ = open_clip.create_model_and_transforms(name, require_pretrained=True)
    mean, std = model.visual.image_mean, model.visual.image_std
    return TrainedClip(model.eval(), open_clip.get_tokenizer(name), mean, std)
