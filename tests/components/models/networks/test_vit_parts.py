"""The written-out transformers against the libraries' own forward passes."""

import pytest
import torch
from torch import nn

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.timm import Timm
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.backbones.transformers import Transformers
from components.models.networks.vit_parts import parts_of
from tests.random_vit import FORMS, logits_of, random_pixels, random_vit, timm_of


@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_the_logits_are_the_networks_own(form):
    network, pixels = random_vit(form), random_pixels()
    torch.testing.assert_close(
        parts_of(network)(pixels).logits, logits_of(network, pixels), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_so_are_their_gradients(form):
    network, pixels = random_vit(form), random_pixels()
    found, expected = (
        torch.autograd.grad(logits.square().sum(), list(network.parameters()))
        for logits in (parts_of(network)(pixels).logits, logits_of(network, pixels))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        (Timm(architecture="vit_tiny_patch16_224"), 224),
        (Timm(architecture="deit3_small_patch16_224"), 64),
        (Timm(architecture="vit_small_patch14_reg4_dinov2"), 56),
        (Timm(architecture="vit_base_patch32_clip_quickgelu_224"), 64),
        (Torchvision(architecture="vit_b_32"), 64),
        (Transformers(depth=2), 64),
        (Transformers(architecture="dinov2", depth=2), 56),
        (Transformers(architecture="dinov2_with_registers", depth=2), 56),
    ],
    ids=lambda x: getattr(x, "architecture", None),
)
def test_so_they_are_in_published_architectures(backbone, side):
    network, pixels = backbone.build(3, side, seed=0).eval(), random_pixels(2, side)
    with torch.no_grad():
        expected = network(pixels)
        torch.testing.assert_close(parts_of(network)(pixels).logits, expected, rtol=1e-5, atol=1e-5)


def test_the_network_is_computed_as_in_evaluation_mode():
    network, pixels = random_vit(proj_drop_rate=0.5, drop_path_rate=0.5), random_pixels()
    expected = parts_of(network)(pixels).logits
    assert torch.equal(parts_of(network.train())(pixels).logits, expected)
    assert network.training


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: SmallCnn().build(2, 32, 0), "Sequential"),
        (lambda: Timm(architecture="swin_tiny_patch4_window7_224").build(2, 224, 0), "SwinTransformer"),
        (lambda: Timm(architecture="test_vit3").build(2, 32, 0), "pooling"),
        (lambda: Timm(architecture="test_vit4").build(2, 32, 0), "RmsNorm"),
        (lambda: Timm(architecture="vit_small_patch14_dinov2").build(None, 28, 0), "head"),
        (lambda: random_vit(qk_norm=True), "norms within attention"),
        (lambda: random_vit(scale_mlp_norm=True), "norms within attention or MLP"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(network, message):
    with pytest.raises(ValueError, match=rf"^no relevance through [^\n]*{message}[^\n]*$"):
        parts_of(network())


def test_another_block_is_refused():
    network = random_vit()
    timm_of(network).blocks[1].mlp = nn.Identity()
    with pytest.raises(ValueError, match="Identity"):
        parts_of(network)
