"""The one form in which backbones are used.

B images, D channels of the trunk, F features, C classes, S segments, h w the trunk's grid, T tokens: those of
the h w patches, after `prefix_tokens` others, of which the first is the class token where there is one.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.models.networks.statistics import Statistics
from components.models.weights.checkpoints import find_checkpoint
from components.models.weights.loading import read_checkpoint, set_state

Pool = Callable[[Tensor], Tensor]


def mean_pool(spatial: Tensor) -> Tensor:
    """The mean (B, D) of a map (B, D, h, w)."""
    return spatial.mean(dim=(2, 3))


class Network(nn.Module):
    """trunk: normalised pixels -> map (B, D, h, w), or tokens (B, T, D) where `prefix_tokens` is given;
    pool: that -> features (B, F), `width` of them, by the architecture's own pooling and all that follows it
    but the last layer; head: features -> logits (B, C)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Module,
        width: int,
        statistics: Statistics,
        pool: Pool = mean_pool,
        prefix_tokens: int | None = None,
        has_class_token: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = pool
        self.head = head
        self.width = width
        self.prefix_tokens = prefix_tokens
        self.has_class_token = has_class_token
        self.dtype = torch.float32
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def ready(self, device: str, dtype: torch.dtype) -> "Network":
        """Itself on the device, in evaluation mode. Trunk and pooling compute in `dtype`; the normalisation
        before them and the head after them stay in float32."""
        self.dtype = dtype
        self.trunk.to(dtype)
        if isinstance(self.pool, nn.Module):
            self.pool.to(dtype)
        return self.to(memory_format=torch.channels_last).to(device).eval()

    def spatial(self, pixels: Tensor, class_token: bool = False) -> Tensor:
        """Feature map float32 (B, D, h, w) of pixels (B, 3, H, W) in 0..255: of patch tokens, in their grid.

        class_token: the class token is put to every cell, as D channels more (SALF-CBM's variant "cls").
        Raises ValueError where there is none.
        """
        encoded = self._encode(pixels)
        spatial = self.grid(encoded).float()
        if not class_token:
            return spatial
        if not self.has_class_token:
            raise ValueError("class_token: this backbone has no class token")
        token = encoded[:, 0, :, None, None].float().expand_as(spatial)
        return torch.cat([spatial, token], dim=1)

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features float32 (B, F)."""
        return self.pool(self._encode(pixels)).float()

    def pooled(self, vectors: Tensor) -> Tensor:
        """Features float32 (S, F) of vectors (S, D) of the map: what `pool` makes of a map of one cell, or of
        tokens that are all this one. With a pooling that is a mean, the vectors themselves."""
        x = vectors.to(self.dtype)
        if self.prefix_tokens is None:
            return self.pool(x[:, :, None, None]).float()
        return self.pool(x[:, None].expand(-1, self.prefix_tokens + 1, -1)).float()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.features(pixels))
        return logits

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in 0..255 as the trunk takes them."""
        return ((pixels.float() / 255 - self.mean) / self.std).to(self.dtype)

    def _encode(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.trunk(self.normalised(pixels))
        return x

    def grid(self, encoded: Tensor) -> Tensor:
        """What the trunk gives, as a map: tokens of patches in their grid."""
        if self.prefix_tokens is None:
            return encoded
        patches = encoded[:, self.prefix_tokens :]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).unflatten(2, (side, side))


def taken_apart(
    model: nn.Module, parts: Callable[[nn.Module], Network], image_size: int, name: str
) -> Network:
    """`parts(model)`, in evaluation mode, which must give what the model gave whole.

    Raises ValueError where it does not, at this size of images.
    """
    probe = torch.linspace(-2, 2, 3 * image_size**2).view(1, 3, image_size, image_size)
    refusal = f"{name} at {image_size} pixels is not a trunk, a pooling and a head"
    try:
        with torch.no_grad():  # what a model caches in inference mode cannot be trained with
            expected = model.eval()(probe)
            network = parts(model)
            encoded = network.trunk(probe)
            found = network.head(network.pool(encoded))
            if encoded.ndim == 4:  # what comes before patches matters to tokens alone
                network.prefix_tokens = None
            network.grid(encoded)
    except Exception as error:  # whatever a model of another form stumbles over
        raise ValueError(f"{refusal}: {str(error).partition(chr(10))[0]}") from error
    noise = 1e-4 * float(expected.abs().max())
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=noise):
        raise ValueError(f"{refusal}: together they give other logits than the model")
    return network


def to_pixels(images: NDArray[np.uint8], device: str) -> Tensor:
    """uint8 (B, H, W, 3) as uint8 (B, 3, H, W) on the device, channels last in memory."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2)


def load_tensors(network: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Sets all parameters and buffers; RuntimeError names what is missing or does not fit."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})


def dump_tensors(network: nn.Module) -> dict[str, NDArray[Any]]:
    """All persistent parameters and buffers as arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def from_classifier(
    trunk: nn.Module, width: int, n_classes: int | None, statistics: Statistics, checkpoint: str | None
) -> Network:
    """A network with a mean as its pooling. Where a checkpoint is given, a classifier's state (`trunk.*`,
    `head.*`), the trunk is set to that of the checkpoint, and without `n_classes` the head too.

    Raises MissingWeights; WrongWeights if it does not fit; ValueError without both.
    """
    path = None if checkpoint is None else find_checkpoint(checkpoint)
    state = {} if path is None else read_checkpoint(path)
    classes = len(state.get("head.bias", ())) if n_classes is None else n_classes
    if classes == 0:
        raise ValueError("no head of its own: give the number of classes, or the checkpoint of a classifier")
    network = Network(trunk, nn.Linear(width, classes), width, statistics)
    if path is not None:
        own_head = {} if n_classes is None else {f"head.{n}": x for n, x in network.head.state_dict().items()}
        set_state(network, {**state, **own_head}, path)
    return network
