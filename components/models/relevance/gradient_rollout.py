"""Attention handed on from block to block. B images, T tokens, R of them read, h heads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from components.models.networks.explicit_vit import ExplicitVit
from components.models.relevance.relevance import RelevanceOutput


def class_gradients(
    logits: Tensor, classes: Tensor, of: Sequence[Tensor], differentiable: bool
) -> list[Tensor]:
    """The gradient of each image's logit of its class (B,) with respect to each of these tensors, from one
    backward pass that computes no gradient of a parameter."""
    score = logits.gather(1, classes[:, None]).sum()
    return list(torch.autograd.grad(score, list(of), retain_graph=True, create_graph=differentiable))


def gradient_rollout(
    vit: ExplicitVit, pixels: Tensor, classes: Tensor, differentiable: bool
) -> RelevanceOutput:
    """GAE of Chefer et al. (ICCV 2021) as RobustViT and CFT run it
    (docs/methods/guided_fine_tuning.md, eqs. 4-6): with A_l the attention of block l and G_l the gradient of
    the class's logit with respect to it,

        E_l = mean over heads of max(0, G_l A_l),   R <- R + E_l R from the first block to the last,

    from R = 1, and the map is the row of R that the head reads, at the patches. `differentiable`: G_l is
    part of the graph, else a constant.

    Only that row is computed: from the last block to the first, r <- r + r E_l. Of a head that reads a
    mean, r starts as its weights, which are not part of the map: a patch's share in its own token is the same
    for all, and has nothing to do with the class.
    """
    done = vit(pixels)
    attentions = [block.attention for block in done.blocks]
    gradients = class_gradients(done.logits, classes, attentions, differentiable)
    start = _read(done.pooling, attentions[0].shape[-1])
    gathered = start.new_zeros(len(pixels), len(start))
    with torch.autocast(pixels.device.type, enabled=False):  # what is added up over many blocks
        for attention in reversed(attentions):
            evidence = (gradients.pop().clamp(min=0) * attention).to(start.dtype).mean(1)
            gathered = gathered + _handed_on(start + gathered, evidence)
    return RelevanceOutput(vit.on_grid(gathered), done.logits)


def attention_rollout(vit: ExplicitVit, pixels: Tensor) -> RelevanceOutput:
    """Abnar & Zuidema (ACL 2020): half of the attention, averaged over heads, and half of the identity for
    the residual, multiplied over the blocks; the row that the head reads, at the patches."""
    done = vit(pixels)
    row = _read(done.pooling, done.blocks[0].attention.shape[-1]).expand(len(pixels), -1)
    with torch.autocast(pixels.device.type, enabled=False):
        for block in reversed(done.blocks):
            row = (row + _handed_on(row, block.attention.to(row.dtype).mean(1))) / 2
    return RelevanceOutput(vit.on_grid(row), done.logits)


def _read(pooling: Tensor, tokens: int) -> Tensor:
    """(T,): how much the head reads of each token, over all its poolings; float32 at least."""
    row = pooling.new_zeros(tokens, dtype=torch.promote_types(pooling.dtype, torch.float32))
    row[: pooling.shape[1]] = pooling.sum(0)
    return row


def _handed_on(row: Tensor, maps: Tensor) -> Tensor:
    """(B, T) times (B, R, T): what is not read in the last block hands on nothing."""
    return (row[:, None, : maps.shape[1]] @ maps)[:, 0]
