"""The small backbones start from a classifier's state, which a classifier stage wrote."""

import numpy as np
import pytest
import safetensors.numpy
import torch

from components.models.backbones.small_cnn import SmallCnn
from components.models.backbones.small_vit import SmallVit
from components.models.network import dump_tensors


@pytest.mark.parametrize("backbone", [SmallCnn, SmallVit])
def test_the_trunk_comes_from_the_checkpoint_and_the_head_from_the_seed(backbone, tmp_path):
    trained = dump_tensors(backbone().build(5, 32, seed=7))
    path = tmp_path / "tensors.safetensors"
    safetensors.numpy.save_file(trained, path)
    network = backbone(checkpoint=str(path)).build(2, 32, seed=0)
    fresh = backbone().build(2, 32, seed=0)
    for name, value in dump_tensors(network).items():
        expected = trained[name] if name.startswith("trunk.") else dump_tensors(fresh)[name]
        np.testing.assert_array_equal(value, expected)


def test_a_checkpoint_of_another_width_does_not_fit(tmp_path):
    path = tmp_path / "tensors.safetensors"
    safetensors.numpy.save_file(dump_tensors(SmallCnn(width=4).build(2, 32, seed=7)), path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        SmallCnn(checkpoint=str(path)).build(2, 32, seed=0)
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(RuntimeError, match="Missing key"):
        SmallCnn(checkpoint=str(path)).build(2, 32, seed=0)


def test_sizes_are_those_that_the_docstrings_state():
    network = SmallCnn().build(2, 64, seed=0)
    assert sum(p.numel() for p in network.trunk.parameters()) == pytest.approx(72_000, rel=0.01)
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert network.eval().spatial(pixels).shape == (1, 64, 8, 8)
    assert SmallVit().build(2, 64, seed=0).eval().spatial(pixels).shape == (1, 64, 8, 8)
