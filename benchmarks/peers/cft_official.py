"""One step of CFT's official code, its steps written plainly: one gradient for every block and T x T matrices
for the map, a second forward pass for the classification loss, and one of the frozen original for the log.

The map is reshaped, interpolated and scaled as there; the loss is given, so that both sides have the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def attention_maps(model: Any) -> list[Tensor]:
    """Filled by every forward pass of a timm transformer: the attention (B, h, T, T) of its blocks."""
    maps: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: maps.append(output))
    return maps


def relevance(model: Any, maps: list[Tensor], x: Tensor, classes: Tensor) -> Tensor:
    """(B, S, S) in [0, 1] of normalised pixels x (B, 3, S, S)."""
    maps.clear()
    logits = model(x)
    onehot = torch.nn.functional.one_hot(classes, logits.shape[1]).to(logits.dtype)
    score = (onehot * logits).sum()
    tokens = maps[0].shape[-1]
    r = torch.eye(tokens).expand(len(x), tokens, tokens)
    for attention in maps:
        (gradient,) = torch.autograd.grad(score, [attention], retain_graph=True)
        r = r + torch.bmm((gradient * attention).clamp(min=0).mean(dim=1), r)
    side = int((tokens - 1) ** 0.5)
    heat = r[:, 0, 1:].reshape(-1, 1, side, side)
    heat = interpolate(heat, scale_factor=x.shape[-1] // side, mode="bilinear")[:, 0]
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    return (heat - low) / (high - low)


def step(
    model: Any,
    original: Any,
    maps: list[Tensor],
    x: Tensor,
    classes: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Leaves the gradients in the parameters and gives the map. loss: of maps and logits."""
    heat = relevance(model, maps, x, classes)
    maps.clear()
    logits = model(x)
    with torch.no_grad():
        original(x)
    loss(heat, logits).backward()
    return heat.detach()
