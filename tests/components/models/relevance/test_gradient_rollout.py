"""GAE and attention rollout against whole T x T matrices, block by block, in float64."""

import pytest
import torch

from components.models.networks.backbones.timm import Timm
from components.models.networks.backbones.transformers import Transformers
from components.models.relevance.relevances.gae import Gae
from components.models.relevance.relevances.gae_second_order import GaeSecondOrder
from components.models.relevance.relevances.rollout import Rollout
from tests.random_vit import FORMS, in_precision, logits_of, random_pixels, random_vit, timm_of

CLASSES = torch.tensor([1, 4, 0])
MEANS = {
    "small_vit": 0,
    "mean_then_norm": 1,
    "mean_of_all": 0,
}  # forms that read a mean, and from which token


def attentions_of(network, pixels):
    """Logits and the attention (B, h, T, T) of every block, as timm computes it."""
    maps, handles = [], []
    for block in timm_of(network).blocks:
        block.attn.fused_attn = False
        hook = block.attn.attn_drop.register_forward_hook(lambda module, args, out: maps.append(out))
        handles.append(hook)
    logits = logits_of(network, pixels)
    for handle in handles:
        handle.remove()
    return logits, maps


def read_row(r, form):
    """What the head reads of R (B, T, T)."""
    return r[:, MEANS[form] :].mean(1) if form in MEANS else r[:, 0]


def patches(row, network):
    row = row[:, timm_of(network).num_prefix_tokens :]
    return row.unflatten(1, (int(row.shape[1] ** 0.5), -1))


def rolled_out(logits, maps, classes, second_order=False):
    """R - 1 (B, T, T): docs/methods/guided_fine_tuning.md, eqs. 4-5, step by step."""
    score = logits[torch.arange(len(classes)), classes].sum()
    identity = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype).expand(len(classes), -1, -1)
    r = identity
    for a in maps:
        (g,) = torch.autograd.grad(score, a, retain_graph=True, create_graph=second_order)
        r = r + (g * a).clamp(min=0).mean(1) @ r
    return r - identity


def reference(network, pixels, classes, form="class_token", second_order=False):
    """Map and logits."""
    logits, maps = attentions_of(network, pixels)
    return patches(read_row(rolled_out(logits, maps, classes, second_order), form), network), logits


def gradients_of(value, network):
    """By name; zero where nothing reaches a parameter."""
    named = dict(network.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(named.items(), found, strict=True)
    }


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_map_logits_and_gradients_are_those_of_the_matrices(form, second_order):
    network, pixels = random_vit(form), random_pixels()
    relevance = GaeSecondOrder() if second_order else Gae()
    found, logits = relevance.maps(network, pixels, CLASSES)
    expected, expected_logits = reference(network, pixels, CLASSES, form, second_order)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-10, atol=1e-12)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    a = gradients_of((weights * found).sum() + logits.square().sum(), network)
    b = gradients_of((weights * expected).sum() + expected_logits.square().sum(), network)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-8, atol=1e-10, msg=name)


def test_a_published_architecture_in_float32():
    network = Timm(architecture="vit_tiny_patch16_224").build(3, 224, seed=0).eval()
    pixels, classes = random_pixels(2, 224), torch.tensor([2, 0])
    found, _ = Gae().maps(network, pixels, classes)
    expected, _ = reference(network, pixels, classes)
    assert found.shape == (2, 14, 14)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.detach().max()))


def test_a_head_on_class_token_and_mean_reads_both_rows():
    """DINOv2's, with the attention that the library transformers gives."""
    network = Transformers(architecture="dinov2_with_registers", depth=2).build(5, 56, seed=0)
    network, pixels = in_precision(network, torch.float64), random_pixels(3, 56)
    found, logits = Gae().maps(network, pixels, CLASSES)
    network.trunk.model.set_attn_implementation("eager")
    x = (pixels.float() / 255 - network.mean) / network.std
    done = network.trunk.model(x, output_attentions=True)
    expected_logits = network.head(network.pool(done.last_hidden_state))
    r = rolled_out(expected_logits, done.attentions, CLASSES)
    expected = (r[:, 0] + r[:, 5:].mean(1))[:, 5:].view(3, 4, 4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.detach().max()))
    torch.testing.assert_close(logits, expected_logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_it_is_never_negative_and_0_without_gradients(form):
    network, pixels = random_vit(form), random_pixels()
    assert (Gae().maps(network, pixels, CLASSES).raw >= 0).all()
    with torch.no_grad():
        network.head.weight.zero_()
    assert not Gae().maps(network, pixels, CLASSES).raw.any()


@pytest.mark.parametrize("form", ["class_token", "registers", "mean_then_norm", "small_vit"])
def test_which_parameters_the_map_trains(form):
    """Constant gradients leave all after the last attention map exactly alone (property 3 of
    docs/methods/guided_fine_tuning.md, "Checked properties")."""
    network, pixels = random_vit(form), random_pixels()
    constant = gradients_of(Gae().maps(network, pixels, CLASSES).raw.square().sum(), network)
    last = "blocks.2."
    for name, gradient in constant.items():
        _, found, part = name.partition(last)
        after = found and part.startswith(("attn.proj", "ls", "norm2", "mlp"))
        if after or ("blocks" not in name and "norm" in name and "norm_pre" not in name) or "head" in name:
            assert not gradient.any(), name
        elif found and part.startswith("attn.qkv"):
            query_key, value = gradient.split([96, 48])
            assert query_key.any(), name
            assert not value.any(), name
        else:
            assert gradient.any(), name
    whole = gradients_of(GaeSecondOrder().maps(network, pixels, CLASSES).raw.square().sum(), network)
    untouched = {name for name, gradient in whole.items() if gradient.abs().max() < 1e-14}
    norm = "trunk.model.fc_norm.bias" if form == "mean_then_norm" else "norm.bias"
    assert {name.removeprefix("trunk.model.").removeprefix("trunk.vit.") for name in untouched} == {
        "head.bias",
        norm.removeprefix("trunk.model."),
    }


@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_rollout_is_the_product_of_the_matrices(form):
    network, pixels = random_vit(form), random_pixels()
    found, logits = Rollout().maps(network, pixels, CLASSES)
    expected_logits, maps = attentions_of(network, pixels)
    r = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    for a in maps:
        a = a.mean(1) + torch.eye(a.shape[-1], dtype=torch.float64)
        r = a / a.sum(-1, keepdim=True) @ r
    expected = patches(read_row(r, form), network)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-10, atol=1e-12)
    other = Rollout().maps(network, pixels, (CLASSES + 1) % 5)
    assert torch.equal(other.raw, found)


def test_half_precision_is_near():
    """In the network's own bfloat16, and under autocast; what is added up stays in float32."""
    pixels = random_pixels()
    expected, _ = Gae().maps(random_vit(), pixels, CLASSES)
    network = in_precision(random_vit(), torch.float32)
    exact, _ = Gae().maps(network, pixels, CLASSES)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        rough, logits = Gae().maps(network, pixels, CLASSES)
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(rough.flatten().double(), expected.flatten(), dim=0) > 0.99
    assert torch.isfinite(logits).all()
