"""A pre-norm vision transformer written out, so that what it computes on the way can be had.

B images, T tokens of which the first are no patches, R tokens whose result the head reads, D features,
h heads of d features, M features of the MLP, C classes, K poolings side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Weights = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class BlockPass:
    """What one block computes."""

    x: Tensor  # its input (B, T, D)
    normed: Tensor  # the same after the first norm
    q: Tensor  # divided by the root of d (B, h, R, d)
    k: Tensor  # (B, h, T, d), as v
    v: Tensor
    attention: Tensor  # after the softmax (B, h, R, T)
    middle: Tensor  # after the attention's residual (B, R, D)
    u: Tensor  # before the activation (B, R, M)
    y: Tensor  # its output (B, R, D)


@dataclass(frozen=True)
class VitBlock:
    """y = m + scale2 MLP(norm2(m)), m = x + scale1 attention(norm1(x)).

    query, key_value: weight and bias; of keys and values the one under the other, (2D, D).
    """

    norm1: nn.Module
    query: Weights
    key_value: Weights
    heads: int
    projection: nn.Linear
    scale1: Tensor | None
    norm2: nn.Module
    fc1: nn.Linear
    activation: nn.Module
    fc2: nn.Linear
    scale2: Tensor | None

    def __call__(self, x: Tensor, read: int) -> BlockPass:
        """The first `read` tokens of its output: all attend to all, but what is not read is left out."""
        normed = self.norm1(x)
        q = self.apart(linear(normed[:, :read], *self.query) * self.q_scale)
        k, v = (self.apart(part) for part in linear(normed, *self.key_value).chunk(2, dim=-1))
        attention = (q @ k.transpose(-2, -1)).softmax(-1)
        mixed = self.projection(self.together(attention @ v))
        middle = x[:, :read] + (mixed if self.scale1 is None else mixed * self.scale1)
        u = self.fc1(self.norm2(middle))
        out = self.fc2(self.activation(u))
        y = middle + (out if self.scale2 is None else out * self.scale2)
        return BlockPass(x, normed, q, k, v, attention, middle, u, y)

    @property
    def q_scale(self) -> float:
        """1 over the root of d."""
        return (self.projection.in_features / self.heads) ** -0.5

    def apart(self, x: Tensor) -> Tensor:
        """(B, T, D) by heads: (B, h, T, d). Contiguous, or products would keep copies of their own."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()

    def together(self, x: Tensor) -> Tensor:
        """The reverse."""
        return x.transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class VitPass:
    """What the whole transformer computes."""

    blocks: list[BlockPass]
    pooling: Tensor  # (K, R)
    pooled: Tensor  # before the norm that follows the pooling (B, K D)
    logits: Tensor  # (B, C)


@dataclass(frozen=True)
class ExplicitVit:
    """embed: pixels (B, 3, H, H) in 0..255 to the tokens (B, T, D) that enter the first block;
    norm: of the last block's tokens; pooled_norm: after the pooling;
    pooling: of T tokens, the weights (K, R) by which the first R are summed up for the head."""

    embed: Callable[[Tensor], Tensor]
    blocks: list[VitBlock]
    norm: nn.Module
    pooling: Callable[[int], Tensor]
    pooled_norm: nn.Module
    head: nn.Linear
    prefix_tokens: int

    def __call__(self, pixels: Tensor) -> VitPass:
        """All that is computed, in the graph; where no parameter is trained, of the tokens.

        Of the last block only what the head reads: with a class token, a twelfth of the queries and MLPs of
        a transformer with 12 blocks are not needed for anything.
        """
        x = self.embed(pixels)
        if not x.requires_grad:
            x.requires_grad_()
        pooling = self.pooling(x.shape[1]).to(x)
        passes: list[BlockPass] = []
        for block in self.blocks:
            read = pooling.shape[1] if block is self.blocks[-1] else x.shape[1]
            passes.append(block(x, read))
            x = passes[-1].y
        pooled = (pooling @ self.norm(x)).flatten(1)
        logits = self.head(self.pooled_norm(pooled).to(self.head.weight.dtype))
        return VitPass(passes, pooling, pooled, logits)

    def on_grid(self, tokens: Tensor) -> Tensor:
        """The patches of (B, T) in their grid, (B, g, g)."""
        patches = tokens[:, self.prefix_tokens :]
        side = int(patches.shape[1] ** 0.5)
        return patches.unflatten(1, (side, side))


def class_token(tokens: int) -> Tensor:
    """The pooling that reads the first token alone, whatever their number."""
    return torch.ones(1, 1, dtype=torch.float64)


def mean_of_patches(tokens: int, prefix_tokens: int) -> Tensor:
    """The pooling that is the mean over all tokens but the first."""
    weights = torch.full((1, tokens), 1 / (tokens - prefix_tokens), dtype=torch.float64)
    weights[:, :prefix_tokens] = 0
    return weights


def class_token_and_mean(tokens: int, prefix_tokens: int) -> Tensor:
    """The pooling that reads both, side by side."""
    return torch.cat([torch.eye(1, tokens), mean_of_patches(tokens, prefix_tokens)])
