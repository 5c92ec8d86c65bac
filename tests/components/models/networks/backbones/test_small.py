"""The small backbones start from a classifier's state, which a classifier stage wrote."""

import numpy as np
import pytest
import safetensors.numpy
import torch

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import dump_tensors
from components.models.weights.loading import WrongWeights


@pytest.fixture
def checkpoint(tmp_path):
    def save(state):
        safetensors.numpy.save_file(state, tmp_path / "tensors.safetensors")
        return str(tmp_path / "tensors.safetensors")

    return save


@pytest.mark.parametrize("backbone", [SmallCnn, SmallVit])
def test_the_trunk_comes_from_the_checkpoint_and_the_head_from_the_seed(backbone, checkpoint):
    trained = dump_tensors(backbone().build(5, 32, seed=7))
    network = backbone(checkpoint=checkpoint(trained)).build(2, 32, seed=0)
    fresh = backbone().build(2, 32, seed=0)
    for name, value in dump_tensors(network).items():
        expected = trained[name] if name.startswith("trunk.") else dump_tensors(fresh)[name]
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("backbone", [SmallCnn, SmallVit])
def test_the_own_head_is_the_classifiers(backbone, checkpoint):
    trained = dump_tensors(backbone().build(5, 32, seed=7))
    own = dump_tensors(backbone(checkpoint=checkpoint(trained)).build(None, 32, seed=0))
    assert own.keys() == trained.keys()
    assert all(np.array_equal(own[name], trained[name]) for name in trained)
    with pytest.raises(ValueError, match="no head of its own"):
        backbone().build(None, 32, seed=0)


def test_a_checkpoint_of_another_width_does_not_fit(checkpoint):
    trained = dump_tensors(SmallCnn(width=4).build(2, 32, seed=7))
    with pytest.raises(WrongWeights, match="of another shape"):
        SmallCnn(checkpoint=checkpoint(trained)).build(2, 32, seed=0)
    for n_classes in (2, None):
        with pytest.raises(WrongWeights, match="of another shape"):
            SmallCnn(checkpoint=checkpoint(trained)).build(n_classes, 32, seed=0)
    with pytest.raises(WrongWeights, match="missing"):
        SmallCnn(checkpoint=checkpoint({"weight": np.zeros(3, np.float32)})).build(2, 32, seed=0)


def test_sizes_are_those_that_the_docstrings_state():
    network = SmallCnn().build(2, 64, seed=0)
    assert sum(p.numel() for p in network.trunk.parameters()) == pytest.approx(72_000, rel=0.01)
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert network.eval().spatial(pixels).shape == (1, 64, 8, 8)
    assert SmallVit().build(2, 64, seed=0).eval().spatial(pixels).shape == (1, 64, 8, 8)


@pytest.mark.parametrize("backbone", [SmallCnn, SmallVit])
def test_pixels_are_normalised_to_plus_and_minus_one(backbone):
    network = backbone().build(2, 32, seed=0).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(
            network.spatial(pixels), network.trunk(pixels / 127.5 - 1), atol=1e-5, rtol=1e-5
        )
