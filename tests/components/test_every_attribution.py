"""What holds of every attribution, whatever files there are."""

import numpy as np
import pytest
import torch
from torch import nn

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.backbones.timm import Timm
from components.models.networks.network import Network
from components.models.networks.statistics import CENTRED
from components.studies.explanations.attribution import Attribution
from grid.names import component_class, names

SIDE = 48
KNOBS = {"lime": {"n_samples": 150}, "integrated_gradients": {"n_steps": 10}}
BACKBONES = {"cnn": SmallCnn(width=4), "vit": SmallVit(width=16), "tokens": Timm(architecture="test_vit")}


@pytest.fixture(params=names(Attribution.FOLDER))
def attribution(request):
    return component_class(Attribution.FOLDER, request.param)(**KNOBS.get(request.param, {}))


def red_detector():
    """Logit 0: how much there is that is redder than 200 of 255; logit 1: the same of blue."""
    trunk = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        trunk[0].weight.zero_()
        trunk[0].weight[0, 0, 1, 1] = trunk[0].weight[1, 2, 1, 1] = 1
        trunk[0].bias.fill_(-(200 / 127.5 - 1))
    network = Network(trunk, nn.Linear(2, 2, bias=False), 2, CENTRED)
    with torch.no_grad():
        network.head.weight.copy_(100 * torch.eye(2))
    return network.eval()


def image_with_red(quadrant):
    """Grey noise, and in the middle of one quadrant red noise, half of whose pixels count."""
    stream = np.random.default_rng(quadrant)
    image = stream.integers(100, 156, (SIDE, SIDE, 3), dtype=np.uint8)
    half = SIDE // 2
    y, x = half * (quadrant // 2) + 6, half * (quadrant % 2) + 6
    image[y : y + 12, x : x + 12] = 0
    image[y : y + 12, x : x + 12, 0] = 105 + 150 * stream.integers(0, 2, (12, 12))
    return image


def test_what_alone_decides_is_found(attribution):
    images = np.stack([image_with_red(quadrant) for quadrant in range(4)])
    heatmaps = attribution.explain(red_detector(), images, np.zeros(4, np.int64))
    half = SIDE // 2
    for quadrant, heatmap in enumerate(heatmaps):
        y, x = np.argwhere(heatmap == heatmap.max()).mean(axis=0)  # a superpixel is a maximum all over
        assert 2 * (y // half) + x // half == quadrant
        inside = heatmap.reshape(2, half, 2, half).clip(min=0).sum((1, 3)).ravel()
        assert inside[quadrant] > 0.8 * inside.sum()


@pytest.fixture(scope="module", params=BACKBONES)
def network(request):
    network = BACKBONES[request.param].build(3, 64, seed=0)
    with torch.no_grad():
        network.head.bias += 0.1
    return network.eval()


def test_it_leaves_no_trace_and_does_not_depend_on_the_batch(attribution, network):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    labels = np.array([2, 0, 1])
    try:
        attribution.check(network)
    except ValueError:
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            attribution.explain(network, images, labels)
        return
    before = {name: value.clone() for name, value in network.state_dict().items()}
    asked = [parameter.requires_grad for parameter in network.parameters()]
    modules = [(name, type(module)) for name, module in network.named_modules()]
    torch.manual_seed(1)
    first = attribution.explain(network, images, labels)
    torch.manual_seed(2)
    with torch.inference_mode():
        second = attribution.explain(network, images, labels)
    assert first.shape == (3, 64, 64)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert first.max() > 0
    alone = attribution.explain(network, images[1:2], labels[1:2])
    np.testing.assert_allclose(alone[0], first[1], atol=1e-4 * np.abs(first[1]).max())
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [parameter.requires_grad for parameter in network.parameters()] == asked
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [(name, type(module)) for name, module in network.named_modules()] == modules
    for module in network.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
        assert "forward" not in vars(module)


def test_where_nothing_decides_the_heatmap_is_0_and_where_it_is_not_finite_it_is_refused(attribution):
    network = red_detector()
    grey, red = np.full((1, SIDE, SIDE, 3), 90, np.uint8), image_with_red(0)[None]
    assert not attribution.explain(network, grey, np.zeros(1, np.int64)).any()
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"finite|NaN"):
        attribution.explain(network, red, np.zeros(1, np.int64))
