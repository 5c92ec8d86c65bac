"""Maps in [0, 1], and GradCAM against the package grad-cam."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from components.models.relevance.relevances.grad_cam import GradCam
from components.studies.explanations.attributions.gradcam import Gradcam
from components.studies.guided_fine_tuning.unit_maps import unit_maps
from tests.components.test_every_relevance import network_of, pixels_of


def random_raw(shape=(4, 6, 6), dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("signed", [False, True])
def test_the_formula(signed):
    """The clamp, interpolation and scaling of each image, one at a time."""
    raw = random_raw()
    for one, found in zip(raw, unit_maps(raw, 21, signed), strict=True):
        one = one if signed else one.clamp(min=0)
        large = interpolate(one[None, None], (21, 21), mode="bilinear")[0, 0].numpy()
        np.testing.assert_allclose(found, (large - large.min()) / (large.max() - large.min()), atol=1e-12)


def test_both_ends_are_attained_exactly_at_every_scale():
    for scale in (1e-6, 1.0, 1e6):
        for dtype in (torch.float32, torch.float64):
            for side in (24, None):
                maps = unit_maps(scale * random_raw(dtype=dtype), side)
                assert maps.amin((1, 2)).tolist() == [0] * 4
                assert maps.amax((1, 2)).tolist() == [1] * 4


def test_a_bilinear_multiple_is_that_of_the_official_code():
    raw = random_raw((2, 14, 14)).abs()
    expected = interpolate(raw[:, None], scale_factor=16, mode="bilinear")[:, 0]
    least, most = expected.amin((1, 2), keepdim=True), expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(unit_maps(raw, 224), (expected - least) / (most - least))


@pytest.mark.parametrize("constant", [-1.0, 0.0, 0.3, 0.7, 5.3, 1e4])
def test_a_constant_map_is_0_and_has_a_gradient(constant):
    raw = random_raw().clamp(min=0)
    raw[1] = constant
    raw.requires_grad_()
    maps = unit_maps(raw, 12)
    assert not maps[1].any()
    assert maps[0].max() == 1
    maps.square().sum().backward()
    assert torch.isfinite(raw.grad).all()


def test_the_gradient_is_right():
    raw = random_raw((2, 3, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: unit_maps(x, 7, signed=True), raw)
    assert torch.autograd.gradcheck(lambda x: unit_maps(x, None), raw)


@pytest.mark.parametrize("form", ["class_token", "small_vit", "convnext"])
def test_grad_cam_is_that_of_the_package(form):
    network, pixels = network_of(form, torch.float32), pixels_of(form)
    classes = torch.tensor([1, 0, 2])
    expected = Gradcam().explain(network, pixels.permute(0, 2, 3, 1).numpy(), classes.numpy())
    found = unit_maps(GradCam().maps(network, pixels, classes).raw, pixels.shape[-1])
    assert expected.max() > 0
    np.testing.assert_allclose(found.detach(), expected, atol=2e-3)
