"""Folded networks, against themselves unfolded."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import Network
from components.models.networks.statistics import IMAGENET
from components.studies.explanations.batch_norm_folding import folded

SIDE = 48


def pixels():
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).float()


def with_statistics(network):
    """Batch norms that have seen something, and scale and shift it."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return network.eval()


def residual():
    model = resnet18(num_classes=7)
    trunk = nn.Sequential(*list(model.children())[:-2])
    return Network(trunk, nn.Linear(512, 7), 512, IMAGENET)


@pytest.mark.parametrize("build", [residual, lambda: SmallCnn(width=4).build(7, SIDE, seed=0)])
def test_logits_stay_and_no_batch_norm_computes(build):
    network = with_statistics(build())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = folded(network, SIDE)
    assert found is not network
    with torch.no_grad():
        expected = network(pixels())
        torch.testing.assert_close(found(pixels()), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        for layer in found.modules():
            if isinstance(layer, nn.BatchNorm2d):
                x = torch.rand(1, layer.num_features, 2, 2)
                assert layer(x) is x
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_without_batch_norms_stays_as_it_is():
    network = SmallVit().build(2, SIDE, seed=0).eval()
    assert folded(network, SIDE) is network


def test_a_convolution_whose_output_is_used_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.convolution(x)
            return self.norm(y) + y

    network = with_statistics(Network(Twice(), nn.Linear(4, 2), 4, IMAGENET))
    assert folded(network, SIDE) is network
