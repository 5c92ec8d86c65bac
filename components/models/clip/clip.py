"""CLIP: which checkpoint, and the embeddings that it gives."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.models.clip.clip_format import (
    Preprocess,
    build_model,
    build_tokenizer,
    read_format,
    token_counts,
)
from components.models.weights.precision import Precision, dtype_of

if TYPE_CHECKING:
    import torch

IMAGES_AT_ONCE = 256  # bounds the memory of one forward pass, whatever the number of segments or places
TEXTS_AT_ONCE = 256

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP checkpoint. Its preprocessing comes from its config, never from here.

    checkpoint: a folder in open_clip's own form (`open_clip_config.json`, `open_clip_model.safetensors`, and
    `tokenizer.json` where the model has a tokenizer of its own), as `python -m grid weights fetch` puts one
    for each of open_clip's `model/pretrained` pairs; or a single weights file.
    architecture: open_clip's name of the model, for a single file with no `open_clip_config.json` beside it;
    which activation it has is part of the name (`ViT-B-32-quickgelu`). Where there is a config, it wins.
    precision: of the forward pass; embeddings are float32, of length 1.
    """

    checkpoint: str = "ViT-B-32/openai"
    architecture: str | None = None
    precision: Precision = "auto"

    def load(self, device: str) -> "ClipModel":
        """The model in evaluation mode. MissingWeights if the checkpoint is not there, WrongWeights if it
        cannot be read or does not fit, ValueError if its config does not say enough."""
        return ClipModel(self, device)

    def preparation(self) -> Preprocess:
        """All of the model's own preprocessing but the normalisation, without its weights."""
        return read_format(self.checkpoint, self.architecture).preprocess


class ClipModel:
    """A loaded CLIP. S: side in pixels of the square that its image tower takes; D: of the embedding.

    Counts the images that the image tower has seen in `images_seen`.
    """

    def __init__(self, clip: Clip, device: str) -> None:
        import torch

        from components.models.weights.loading import read_checkpoint, set_state

        checkpoint = read_format(clip.checkpoint, clip.architecture)
        model = build_model(checkpoint)
        set_state(model, read_checkpoint(checkpoint.weights), checkpoint.weights)
        self.dtype = dtype_of(clip.precision, device)
        self.device = device
        self.prepare = checkpoint.preprocess
        self.size = self.prepare.size
        self.images_seen = 0
        self._model = model.to(device=device, dtype=self.dtype)
        self._tokenize = build_tokenizer(checkpoint)
        self._width = int(checkpoint.model["embed_dim"])
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1)
            for values in (self.prepare.mean, self.prepare.std)
        )

    def embed_images(self, images: Iterable[Image]) -> NDArray[np.float32]:
        """Unit vectors float32 (B, D) of images uint8 (H, W, 3), prepared already or not."""
        return self.embed_blocks(self.pixels(block) for block in _blocks(images))

    def embed_squares(self, squares: Iterable[Image]) -> NDArray[np.float32]:
        """Unit vectors float32 (B, D) of crops uint8 (S, S, 3)."""
        return self.embed_blocks(_tensor(block, self.device) for block in _blocks(squares))

    def pixels(self, images: Sequence[Image]) -> "torch.Tensor":
        """Images, prepared already or not, as uint8 (B, 3, S, S) on the device."""
        return _tensor([self.prepare(image) for image in images], self.device).contiguous()

    def embed_blocks(self, blocks: Iterable["torch.Tensor"]) -> NDArray[np.float32]:
        """Unit vectors float32 (B, D), each block in one forward pass: pixels in 0..255, uint8 or float,
        (b, 3, S, S) on the device; not yet normalised."""
        import torch

        with torch.inference_mode():
            vectors = [self._embed(block) for block in blocks]
            return _joined(vectors) if vectors else np.zeros((0, self._width), np.float32)

    def _embed(self, pixels: "torch.Tensor") -> "torch.Tensor":
        self.images_seen += len(pixels)
        normalised = (pixels.float().div(255) - self._mean) / self._std
        vectors: torch.Tensor = self._model.encode_image(normalised.to(self.dtype))
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (K, D); ValueError if there is no text, or for one that is too long."""
        import torch

        if not texts:
            raise ValueError("no text to embed")
        limit = self._tokenize.context_length
        for text, count in zip(texts, token_counts(self._tokenize, texts), strict=True):
            if count > limit:
                raise ValueError(f"text of {count} tokens, more than the model's {limit}: {text!r}")
        with torch.inference_mode():
            parts = self._tokenize(list(texts)).split(TEXTS_AT_ONCE)
            return _joined([self._model.encode_text(part.to(self.device)) for part in parts])


def _blocks(images: Iterable[Image]) -> Iterator[list[Image]]:
    remaining = iter(images)
    return iter(lambda: list(islice(remaining, IMAGES_AT_ONCE)), [])


def _tensor(squares: Sequence[Image], device: str) -> "torch.Tensor":
    """uint8 (B, 3, S, S), channels last in memory."""
    import torch

    return torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2)


def _joined(vectors: Sequence["torch.Tensor"]) -> NDArray[np.float32]:
    """Of length 1 in float32, whatever the precision of the model."""
    import torch
    from torch.nn.functional import normalize

    return normalize(torch.cat(list(vectors)).float(), dim=-1).cpu().numpy()
