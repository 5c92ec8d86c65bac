"""AttnLRP against the same rules as changes to autograd, conservation, and finite differences."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.layers import QuickGELU
from torch import nn
from torch.nn.functional import gelu

from components.models.networks.explicit_vit import (
    ExplicitVit,
    class_token,
    class_token_and_mean,
    mean_of_patches,
)
from components.models.networks.vit_parts import parts_of
from components.models.relevance.attnlrp import gain, token_relevance
from components.models.relevance.relevances.attnlrp_cp import AttnlrpCp
from components.models.relevance.relevances.attnlrp_explicit import AttnlrpExplicit
from tests.random_vit import FORMS, random_pixels, random_vit, timm_of

CLASSES = torch.tensor([1, 4, 0])
RULES = {"uniform": AttnlrpExplicit(), "constant": AttnlrpCp()}


def norm(module, x):
    """Identity rule: the standard deviation is a constant."""
    if isinstance(module, nn.Identity):
        return x
    deviation = (x.var(-1, unbiased=False, keepdim=True) + module.eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * module.weight + module.bias


def half(x):
    """A factor of a product under the uniform rule: half of the gradient."""
    return (x + x.detach()) / 2


def attention(module, x, rule):
    b, t, d = x.shape
    q, k, v = module.qkv(x).view(b, t, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
    a = (half(q) @ half(k).transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    mixed = half(a) @ half(v) if rule == "uniform" else a.detach() @ v
    return module.proj(mixed.transpose(1, 2).reshape(b, t, d))


def changed_forward(network, tokens, rule, form):
    """timm's forward from its tokens on, by operations whose gradient times input is the relevance."""
    model, x = timm_of(network), tokens
    for block in model.blocks:
        x = x + block.ls1(attention(block.attn, norm(block.norm1, x), rule))
        u = block.mlp.fc1(norm(block.norm2, x))
        x = x + block.ls2(block.mlp.fc2(u * (gelu(u) / u).detach()))
    x = norm(model.norm, x)
    first = {"small_vit": 0, "mean_of_all": 0, "mean_then_norm": 1}.get(form)
    x = x[:, 0] if first is None else x[:, first:].mean(1)
    return network.head(norm(model.fc_norm, x))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_it_is_what_changed_autograd_gives(form, rule):
    network, pixels = random_vit(form, depth=4), random_pixels()
    vit = parts_of(network)
    tokens = vit.embed(pixels).detach().requires_grad_()
    logits = changed_forward(network, tokens, rule, form)
    (gradient,) = torch.autograd.grad(logits[torch.arange(3), CLASSES].sum(), tokens)
    expected = (gradient * tokens.detach()).sum(-1)
    torch.testing.assert_close(
        token_relevance(vit, vit(pixels), CLASSES, rule), expected, rtol=1e-10, atol=1e-10
    )
    raw, found_logits = RULES[rule].maps(network, pixels, CLASSES)
    patches = expected[:, timm_of(network).num_prefix_tokens :].view(3, 4, 4)
    torch.testing.assert_close(raw, patches, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_logits, logits, rtol=1e-10, atol=1e-10)
    assert (raw < 0).any()


@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_without_biases_the_constant_attention_conserves_the_logit(form):
    network, pixels = random_vit(form, depth=4), random_pixels()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") and "patch_embed" not in name:
                parameter.zero_()
    vit = parts_of(network)
    done = vit(pixels)
    logits = done.logits[torch.arange(3), CLASSES]
    total = token_relevance(vit, done, CLASSES, "constant").sum(1)
    torch.testing.assert_close(total, logits, rtol=1e-6, atol=0)
    uniform = token_relevance(vit, done, CLASSES, "uniform").sum(1)
    assert not torch.allclose(uniform, logits, rtol=1e-3)


def test_the_derivative_through_changed_autograd_is_another():
    """Why the rules are written out (docs/methods/guided_fine_tuning.md, "AttnLRP"): the map is the same, its
    gradient is not."""
    network, pixels = random_vit(), random_pixels()
    weights = torch.linspace(-1, 1, 48, dtype=torch.float64).view(3, 4, 4)
    parameter = timm_of(network).blocks[1].mlp.fc1.weight
    ours = AttnlrpExplicit().maps(network, pixels, CLASSES).raw
    tokens = parts_of(network).embed(pixels)
    logits = changed_forward(network, tokens, "uniform", "class_token")
    (signal,) = torch.autograd.grad(logits[torch.arange(3), CLASSES].sum(), tokens, create_graph=True)
    theirs = (signal * tokens).sum(-1)[:, 1:].view(3, 4, 4)
    torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)
    true, wrong = (
        torch.autograd.grad((weights * raw).sum(), parameter)[0].flatten() for raw in (ours, theirs)
    )
    assert torch.cosine_similarity(true, wrong, dim=0) < 0.99


@pytest.mark.parametrize("kind", [nn.GELU(), nn.GELU(approximate="tanh")])
def test_the_gain_is_the_quotient_and_has_a_gradient_at_0(kind):
    u = torch.linspace(-6, 6, 101, dtype=torch.float64)
    u = u[u.abs() > 1e-6]
    torch.testing.assert_close(gain(kind, u), kind(u) / u, rtol=1e-10, atol=1e-13)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        zero = torch.zeros(1, dtype=dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(gain(kind, zero), zero)
        assert float(slope) == pytest.approx((2 * torch.pi) ** -0.5, rel=1e-2)
    far = torch.tensor([-100.0, 100.0], requires_grad=True)
    assert gain(kind, far).tolist() == [0, 1]
    assert torch.autograd.grad(gain(kind, far).sum(), far)[0].tolist() == [0, 0]


def test_the_quick_gelu_has_a_gain_too_and_other_activations_are_refused():
    u = torch.linspace(-3, 3, 40, dtype=torch.float64)
    torch.testing.assert_close(gain(QuickGELU(), u), QuickGELU()(u) / u)
    network = random_vit(act_layer=nn.SiLU)
    for relevance in RULES.values():
        with pytest.raises(ValueError, match=r"^AttnLRP has no rule for the activation SiLU[^\n]*$"):
            relevance.check(network)
        with pytest.raises(ValueError, match="SiLU"):
            relevance.maps(network, random_pixels(), CLASSES)


def test_the_poolings_side_by_side_share_the_relevance():
    """A head on the class token and the mean of the patches (DINOv2's): the sum of two heads."""
    network, pixels = random_vit(), random_pixels()
    base = parts_of(network)
    head = nn.Linear(96, 5, bias=False).double()

    def with_head(pooling, weight) -> ExplicitVit:
        linear = nn.Linear(weight.shape[1], 5, bias=False).double()
        linear.weight.data = weight
        return replace(base, pooling=pooling, head=linear)

    both = with_head(partial(class_token_and_mean, prefix_tokens=1), head.weight)
    alone = (
        with_head(class_token, head.weight[:, :48]),
        with_head(partial(mean_of_patches, prefix_tokens=1), head.weight[:, 48:]),
    )
    for rule in RULES:
        whole, *parts = (token_relevance(vit, vit(pixels), CLASSES, rule) for vit in (both, *alone))
        torch.testing.assert_close(whole, sum(parts), rtol=1e-10, atol=1e-10)
