"""Transformers of the library transformers, from folders as it writes them."""

import json

import pytest
import torch
import transformers

from components.models.networks.backbones.transformers import MODELS, Transformers
from components.models.networks.network import to_pixels
from components.models.networks.statistics import IMAGENET
from components.models.weights.loading import WrongWeights
from tests.random_vit import random_pixels

SIDE = 32
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": SIDE,
    "patch_size": 8,
}
STATISTICS = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.3, 0.4]}


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    """An architecture, its model and its folder."""
    kind = getattr(transformers, MODELS[request.param])
    size = {"intermediate_size": 48} if request.param == "vit" else {"mlp_ratio": 2}
    torch.manual_seed(0)
    model = kind(kind.config_class(**SMALL, **size, num_labels=4)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(STATISTICS))
    return request.param, model, tmp_path


def test_its_own_head_gives_its_own_logits(saved):
    architecture, model, folder = saved
    network = Transformers(architecture=architecture, checkpoint=str(folder)).build(None, SIDE, 0)
    pixels = random_pixels(2, SIDE)
    mean, std = (torch.tensor(STATISTICS[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        expected = model((pixels / 255 - mean) / std).logits
        torch.testing.assert_close(network(pixels), expected)
    assert network.width == (24 if architecture == "vit" else 48)
    assert network.spatial(pixels).shape == (2, 24, 4, 4)


def test_without_a_preprocessor_it_normalises_as_its_architecture_was_trained(saved):
    architecture, _, folder = saved
    (folder / "preprocessor_config.json").unlink()
    network = Transformers(architecture=architecture, checkpoint=str(folder)).build(3, SIDE, 0)
    expected = (0.5, 0.5, 0.5) if architecture == "vit" else IMAGENET[0]
    torch.testing.assert_close(network.mean.flatten(), torch.tensor(expected))
    assert network(to_pixels(random_pixels(2, SIDE).permute(0, 2, 3, 1).numpy(), "cpu")).shape == (2, 3)


def test_a_folder_of_another_architecture_is_refused(saved):
    architecture, _, folder = saved
    other = "dinov2" if architecture == "vit" else "vit"
    with pytest.raises(WrongWeights, match=r"^[^\n]+$"):
        Transformers(architecture=other, checkpoint=str(folder)).build(None, SIDE, 0)


def test_sizes_that_it_does_not_take_are_refused(saved):
    architecture, _, folder = saved
    backbone = Transformers(architecture=architecture, checkpoint=str(folder))
    with pytest.raises(ValueError, match="36 pixels are no multiple"):
        backbone.build(None, 36, 0)
    if architecture == "vit":
        with pytest.raises(ValueError, match="doesn't match"):
            backbone.build(None, 40, 0)
    else:
        assert backbone.build(None, 40, 0)(random_pixels(1, 40)).shape == (1, 4)
