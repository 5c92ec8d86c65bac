"""What holds of every backbone, whatever files there are."""

import numpy as np
import pytest
import torch

from components.models.backbone import Backbone
from components.models.network import dump_tensors, load_tensors, to_pixels
from grid.names import component_class, names

SIDE, CLASSES = 64, 3
SMALLER = {"torchvision": {"architecture": "squeezenet1_0"}}  # than the default, for the tests' sake
IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=names(Backbone.FOLDER))
def backbone(request):
    return component_class(Backbone.FOLDER, request.param)(**SMALLER.get(request.param, {}))


@pytest.fixture(scope="module")
def network(backbone):
    return backbone.build(CLASSES, SIDE, seed=1).eval()


@pytest.fixture
def pixels():
    return to_pixels(IMAGES, "cpu")


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_building_depends_on_the_seed_alone(backbone, network):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, other = (backbone.build(CLASSES, SIDE, seed=seed) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(dump_tensors(again), dump_tensors(network))
    assert not equal(dump_tensors(other), dump_tensors(network))


def test_map_features_and_logits_belong_together(network, pixels):
    with torch.inference_mode():
        spatial, features, logits = network.spatial(pixels), network.features(pixels), network(pixels)
    assert spatial.ndim == 4
    assert spatial.shape[2] == spatial.shape[3] > 1
    assert spatial.dtype == torch.float32
    means = spatial.double().sum(dim=(2, 3)) / (spatial.shape[2] * spatial.shape[3])
    torch.testing.assert_close(features.double(), means, atol=1e-6, rtol=1e-5)
    weight, bias = network.head.weight.double(), network.head.bias.double()
    torch.testing.assert_close(logits.double(), means @ weight.T + bias, atol=1e-5, rtol=1e-5)
    assert logits.shape == (5, CLASSES)


def test_an_image_gets_the_same_features_in_any_company(network, pixels):
    with torch.inference_mode():
        together = network.features(pixels)
        alone = torch.cat([network.features(pixels[i : i + 1]) for i in range(5)])
        again = network.features(pixels)
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_the_normalisation_is_the_backbones_own(backbone, network, pixels):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in backbone.STATISTICS)
    with torch.inference_mode():
        by_hand = network.trunk((pixels / 255.0 - mean) / std)
        torch.testing.assert_close(network.spatial(pixels), by_hand, atol=1e-4, rtol=1e-4)


def test_the_state_holds_everything(backbone, network, pixels):
    other = backbone.build(CLASSES, SIDE, seed=9).eval()
    load_tensors(other, dump_tensors(network))
    with torch.inference_mode():
        assert torch.equal(other(pixels), network(pixels))


def test_a_checkpoint_that_is_missing_is_not_passed_over(backbone):
    with pytest.raises(FileNotFoundError, match="no weights 'absent'"):
        type(backbone)(checkpoint="absent", **SMALLER.get(names_of(backbone), {})).build(2, SIDE, 0)


def names_of(backbone):
    return type(backbone).__module__.rpartition(".")[2]
