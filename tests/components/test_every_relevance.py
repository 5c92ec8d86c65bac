"""What holds of every relevance map, whatever files there are."""

import pytest
import torch

from components.models.networks.backbones.timm import Timm
from components.models.relevance.relevance import Relevance
from components.studies.guided_fine_tuning.unit_maps import unit_maps
from grid.names import component_class, names
from tests.random_vit import SIDE, in_precision, random_pixels, random_vit

CLASSES = torch.tensor([1, 0, 2])
FORMS = ("class_token", "small_vit", "convnext")


def network_of(form, dtype=torch.float64):
    if form != "convnext":
        return random_vit(form, dtype=dtype)
    network = in_precision(Timm(architecture="test_convnext").build(3, 64, seed=0), torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in network.parameters():
            parameter.data += 0.3 * parameter.std() * torch.randn_like(parameter)
    return in_precision(network, dtype)


def pixels_of(form):
    return random_pixels(3, 64 if form == "convnext" else SIDE)


@pytest.fixture(params=names(Relevance.FOLDER))
def relevance(request):
    return component_class(Relevance.FOLDER, request.param)()


@pytest.fixture
def forms(relevance):
    """The networks that it has a map of; there are some."""

    def has(form):
        try:
            relevance.check(network_of(form))
        except ValueError:
            return False
        return True

    found = [form for form in FORMS if has(form)]
    assert found
    return found


def test_what_it_has_no_map_of_is_refused_in_one_line(relevance, forms):
    for form in set(FORMS) - set(forms):
        for ask in (relevance.check, lambda network: relevance.maps(network, pixels_of(form), CLASSES)):  # noqa: B023
            with pytest.raises(ValueError, match=r"^[^\n]+$"):
                ask(network_of(form))


def test_map_and_logits_are_of_the_patches_and_the_network(relevance, forms):
    for form in forms:
        network, pixels = network_of(form, torch.float32), pixels_of(form)
        raw, logits = relevance.maps(network, pixels, CLASSES)
        side = 2 if form == "convnext" else 4
        assert raw.shape == (3, side, side)
        assert raw.dtype == torch.float32
        torch.testing.assert_close(logits, network(pixels), rtol=1e-4, atol=1e-4)
        maps = unit_maps(raw, 32)
        assert maps.shape == (3, 32, 32)
        assert maps.amin((1, 2)).tolist() == [0, 0, 0]
        speaks_for = raw.clamp(min=0).amax((1, 2)) > 0
        assert speaks_for.any()
        assert maps.amax((1, 2)).tolist() == speaks_for.tolist()


def test_an_image_has_the_same_map_in_any_company(relevance, forms):
    for form in forms:
        network, pixels = network_of(form), pixels_of(form)
        together, logits = relevance.maps(network, pixels, CLASSES)
        for i in range(3):
            alone = relevance.maps(network, pixels[i : i + 1], CLASSES[i : i + 1])
            torch.testing.assert_close(alone.raw[0], together[i], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(alone.logits[0], logits[i], rtol=1e-10, atol=1e-12)


def test_float32_is_near_float64(relevance, forms):
    for form in forms:
        pixels = pixels_of(form)
        exact = relevance.maps(network_of(form), pixels, CLASSES).raw.detach()
        rough = relevance.maps(network_of(form, torch.float32), pixels, CLASSES).raw.detach()
        torch.testing.assert_close(rough.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_the_gradient_is_that_of_finite_differences(relevance, forms):
    """In a random direction of each parameter, or of a dozen of many. Only that of `gae` is another, as it takes
    its gradients for constants: it is compared with whole matrices elsewhere."""
    for form in forms:
        network, pixels = network_of(form), pixels_of(form)
        weights = torch.linspace(-1, 2, 3 * (4 if form == "convnext" else 16), dtype=torch.float64)

        def value():
            raw = relevance.maps(network, pixels, CLASSES).raw  # noqa: B023
            return (raw.flatten() * weights).sum()  # noqa: B023

        parameters = list(network.parameters())
        parameters = parameters if form == "class_token" else parameters[:: len(parameters) // 12]
        gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
        slopes, expected = [], []
        for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            stream = torch.Generator().manual_seed(i)
            direction = torch.randn(parameter.shape, generator=stream, dtype=torch.float64)
            step = 1e-5 * direction / direction.norm()
            slopes.append(0.0 if gradient is None else float((gradient * step).sum()))
            with torch.no_grad():
                parameter += step
                above = value().item()
                parameter -= 2 * step
                expected.append((above - value().item()) / 2)
                parameter += step
        scale = max(map(abs, expected))
        assert scale > 0
        slopes, expected = torch.tensor(slopes), torch.tensor(expected)
        close = torch.allclose(slopes, expected, rtol=1e-5, atol=1e-7 * scale)
        assert close != (type(relevance).__name__ == "Gae")


def test_it_leaves_no_trace(relevance, forms):
    for form in forms:
        network, pixels = network_of(form), pixels_of(form)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        modules = [(name, type(module), len(vars(module))) for name, module in network.named_modules()]
        fused = [x.fused_attn for x in network.modules() if hasattr(x, "fused_attn")]
        network.requires_grad_(False)
        frozen = relevance.maps(network, pixels, CLASSES).raw.detach()
        network.requires_grad_(True)
        with torch.inference_mode():
            again = relevance.maps(network, pixels, CLASSES).raw
        assert torch.equal(again.detach(), frozen)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())
        after = [(name, type(module), len(vars(module))) for name, module in network.named_modules()]
        assert after == modules
        assert [x.fused_attn for x in network.modules() if hasattr(x, "fused_attn")] == fused
        for module in network.modules():
            assert not any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))
