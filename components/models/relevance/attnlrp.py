"""AttnLRP (Achtibat et al., ICML 2024) as a function of the parameters.

The rules are those of docs/methods/guided_fine_tuning.md, eqs. 7-11.

The signal g, whose product with an activation is its relevance, goes from the logit to the tokens by rules
written out over what the unmodified forward pass has computed. So the derivative of the map with respect to
the parameters is the true one; where rules replace autograd's own, as libraries do it, a second derivative
goes through them as well, and is wrong.

B images, T tokens, R of them read, D features, h heads of d, K poolings.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from components.models.networks.explicit_vit import BlockPass, ExplicitVit, VitBlock, VitPass
from components.models.relevance.relevance import RelevanceOutput

AttentionRule = Literal["uniform", "constant"]


def check(vit: ExplicitVit) -> None:
    """Raises ValueError for an activation without a rule."""
    for block in vit.blocks:
        gain(block.activation, torch.zeros(()))


def attnlrp(
    vit: ExplicitVit, pixels: Tensor, classes: Tensor, attention_rule: AttentionRule
) -> RelevanceOutput:
    """attention_rule: `uniform`, the relevance of a product goes to its factors in equal parts; `constant`,
    the attention is a constant and all goes to the values (CP-LRP).

    Raises ValueError for an activation without a rule.
    """
    done = vit(pixels)
    relevance = token_relevance(vit, done, classes, attention_rule)
    relevance = relevance.to(torch.promote_types(relevance.dtype, torch.float32))
    return RelevanceOutput(vit.on_grid(relevance), done.logits)


def token_relevance(
    vit: ExplicitVit, done: VitPass, classes: Tensor, attention_rule: AttentionRule
) -> Tensor:
    """(B, T), signed, of all tokens with those that are no patches. With `constant` and without biases the
    logit is its sum."""
    g = norm_rule(vit.pooled_norm, done.pooled, vit.head.weight[classes].to(done.pooled.dtype))
    g = torch.einsum("kr,bkd->brd", done.pooling, g.unflatten(1, (len(done.pooling), -1)))
    g = norm_rule(vit.norm, done.blocks[-1].y, g)
    for block, passed in zip(reversed(vit.blocks), reversed(done.blocks), strict=True):
        g = block_rule(block, passed, g, attention_rule)
    return (g * done.blocks[0].x).sum(-1)


def block_rule(block: VitBlock, passed: BlockPass, g: Tensor, attention_rule: AttentionRule) -> Tensor:
    """The signal (B, T, D) at a block's input, of that (B, R, D) at its output. Those of residuals add."""
    at_u = gain(block.activation, passed.u) * (_scaled(g, block.scale2) @ block.fc2.weight)
    g = g + norm_rule(block.norm2, passed.middle, at_u @ block.fc1.weight)

    x, a, q, k, v = passed.x, passed.attention, passed.q, passed.k, passed.v
    w_q, (w_k, w_v) = block.query[0], block.key_value[0].chunk(2)
    at_heads = block.apart(_scaled(g, block.scale1) @ block.projection.weight)
    at_normed = block.together(a.transpose(-2, -1) @ at_heads) @ w_v
    if attention_rule == "uniform":
        at_a = at_heads @ v.transpose(-2, -1)
        at_scores = a * (at_a - (a * at_a).sum(-1, keepdim=True)) / 4
        at_k = block.together(at_scores.transpose(-2, -1) @ q) @ w_k
        at_q = block.together(at_scores @ k) * block.q_scale @ w_q
        at_normed = at_normed / 2 + at_k + _at_all(at_q, x)
    return _at_all(g, x) + norm_rule(block.norm1, x, at_normed)


def norm_rule(norm: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    """Identity rule of a layer norm with input x: its standard deviation counts as a constant."""
    if isinstance(norm, nn.Identity):
        return g
    assert isinstance(norm, nn.LayerNorm)
    g = g * norm.weight * (x.var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
    return g - g.mean(-1, keepdim=True)


def gain(activation: nn.Module, u: Tensor) -> Tensor:
    """Identity rule of an activation: activation(u) / u, without the division, whose derivative is not finite
    in half precision. Of a GELU it is the normal distribution function.

    Raises ValueError for other activations.
    """
    kind = f"{type(activation).__name__} {getattr(activation, 'approximate', '')}".strip()
    if kind in ("GELU", "GELU none", "GELUActivation"):
        return torch.special.ndtr(u)
    if kind in ("GELUTanh", "GELU tanh"):
        return (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))) / 2
    if kind == "QuickGELU":
        return torch.sigmoid(1.702 * u)
    raise ValueError(f"AttnLRP has no rule for the activation {kind}: it knows GELU and its approximations")


def _scaled(g: Tensor, scale: Tensor | None) -> Tensor:
    return g if scale is None else g * scale


def _at_all(g: Tensor, x: Tensor) -> Tensor:
    """The signal at all tokens of x: 0 where nothing is read."""
    return pad(g, (0, 0, 0, x.shape[1] - g.shape[1]))
