"""LRP: zennit on torchvision's models, conservation, and what has no rules."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from zennit.attribution import Gradient
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonGammaBox, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from components.models.attributions.lrp import Lrp
from components.models.backbone import CENTRED
from components.models.backbones.small_cnn import SmallCnn
from components.models.backbones.small_vit import SmallVit
from components.models.backbones.timm import Timm
from components.models.backbones.torchvision import Torchvision
from components.models.explained_network import ExplainedNetwork
from components.models.network import Network

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def composites(x):
    extremes = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    mean, std = (value.view(1, 3, 1, 1) for value in extremes)
    box = {"low": (-mean / std).expand_as(x), "high": ((1 - mean) / std).expand_as(x)}
    canonizers = [ResNetCanonizer()]
    yield "epsilon_plus_flat", EpsilonPlusFlat(canonizers=canonizers)
    yield "epsilon_alpha2_beta1_flat", EpsilonAlpha2Beta1Flat(canonizers=canonizers)
    yield "epsilon_gamma_box", EpsilonGammaBox(**box, canonizers=canonizers)


def test_it_is_zennits_on_torchvisions_model(explained):
    for name, composite in composites(explained.x):
        target = one_hot(explained.targets, 1000)
        _, relevance = Gradient(explained.plain, composite)(explained.x, lambda y, t=target: y * t)
        expected = relevance.sum(1).detach().numpy()
        attribution = Lrp(composite=name, reduction="signed")
        found = attribution.explain(explained.network, explained.images, explained.labels)
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99999


def test_the_relevance_is_the_logit_where_there_are_no_biases():
    """Bach et al., equation 2. Batch norms that have seen nothing shift nothing; an average pooling that is a
    function in the network shares out its relevance as one that is a module does."""
    network = SmallCnn().build(2, 64, 0).eval()
    nn.init.zeros_(network.head.bias)
    model = ExplainedNetwork(network)
    x, labels = model.normalised(IMAGES), np.array([0, 1])
    logits = model(x)[range(2), labels].detach()
    assert (logits < 0).any(), "a logit below 0 hands back what speaks against the class"
    found = Lrp().relevance(model, x, labels).sum((1, 2, 3))
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-6)


def test_most_of_the_logit_comes_back_through_real_layers(explained):
    """The study behind the spec (F1) lost 16 % of a ResNet-18's to its biases."""
    model = ExplainedNetwork(explained.network)
    found = Lrp().relevance(model, model.normalised(explained.images), explained.labels).sum((1, 2, 3))
    logits = model(explained.x).max(1).values.detach()
    assert ((found / logits - 1).abs() < 0.5).all(), (found, logits)


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        (SmallVit(), "VisionTransformer"),
        (Timm(architecture="test_vit"), "Attention"),
        (Torchvision(architecture="mobilenet_v2"), "InvertedResidual"),
    ],
    ids=["small_vit", "vit", "mobilenet"],
)
def test_what_it_has_no_rules_for_is_refused_in_one_line(backbone, layer):
    """Sums of two paths above all: each would get all of the relevance."""
    network = backbone.build(2, 64, 0).eval()
    with pytest.raises(ValueError, match=rf"lrp has no rule for .*{layer}") as refusal:
        Lrp().explain(network, IMAGES, np.array([0, 1]))
    assert "\n" not in str(refusal.value)


def test_its_rules_hold_for_layers_that_it_knows():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    Lrp().check(Network(layers, nn.Linear(4, 2), 4, CENTRED))
    Lrp().check(Torchvision(architecture="resnet50").build(None, 64, 0))
