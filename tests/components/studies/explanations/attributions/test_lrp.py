"""LRP: zennit on torchvision's models, conservation, and what has no rules."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from zennit.attribution import Gradient
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonGammaBox, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.timm import Timm
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import Network
from components.models.networks.statistics import CENTRED
from components.models.networks.vit_parts import parts_of
from components.studies.explanations.attributions.lrp import Lrp
from components.studies.explanations.explained_network import ExplainedNetwork
from tests.components.models.relevance.test_attnlrp import changed_forward
from tests.random_vit import FORMS, in_precision, random_pixels, random_vit, timm_of

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def composites(x):
    extremes = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    mean, std = (value.view(1, 3, 1, 1).to(x) for value in extremes)
    box = {"low": (-mean / std).expand_as(x), "high": ((1 - mean) / std).expand_as(x)}
    canonizers = [ResNetCanonizer()]
    yield "epsilon_plus_flat", EpsilonPlusFlat(canonizers=canonizers)
    yield "epsilon_alpha2_beta1_flat", EpsilonAlpha2Beta1Flat(canonizers=canonizers)
    yield "epsilon_gamma_box", EpsilonGammaBox(**box, canonizers=canonizers)


def test_it_is_zennits_on_torchvisions_model(explained):
    """Heatmaps are rounded to float32."""
    explained = explained.in_float64()
    for name, composite in composites(explained.x):
        target = one_hot(explained.targets, 1000)
        _, relevance = Gradient(explained.plain, composite)(explained.x, lambda y, t=target: y * t)
        expected = relevance.sum(1).detach().numpy()
        attribution = Lrp(composite=name, reduction="signed")
        found = attribution.explain(explained.network, explained.images, explained.labels)
        assert expected.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=0, atol=2**-23 * np.abs(expected).max())
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
    """A ResNet-18 lost 16 % to its biases in a trial (docs/methods/explanations.md, "lrp")."""
    model = ExplainedNetwork(explained.network)
    found = Lrp().relevance(model, model.normalised(explained.images), explained.labels).sum((1, 2, 3))
    logits = model(explained.x).max(1).values.detach()
    assert ((found / logits - 1).abs() < 0.5).all(), (found, logits)


@pytest.mark.parametrize("reduction", ["signed", "relu", "abs"])
@pytest.mark.parametrize("form", [*FORMS, "small_vit"])
def test_of_a_transformer_it_is_attnlrp_by_changed_autograd(form, reduction):
    """Achtibat et al.: with rules as changes to torch's own operations, on timm's forward."""
    network = random_vit(form, dtype=torch.float64)
    pixels, labels = random_pixels(), np.array([1, 4, 0])
    tokens = parts_of(network).embed(pixels).detach().requires_grad_()
    logits = changed_forward(network, tokens, "uniform", form)
    (gradient,) = torch.autograd.grad(logits[range(3), labels].sum(), tokens)
    relevance = (gradient * tokens.detach()).sum(-1)[:, timm_of(network).num_prefix_tokens :].view(3, 4, 4)
    part = {"signed": relevance, "relu": relevance.clamp(min=0), "abs": relevance.abs()}[reduction]
    expected = zoom_bilinear(part.numpy(), 4)
    assert (relevance < 0).any()
    images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
    single = in_precision(network, torch.float32)
    found = Lrp(reduction=reduction).explain(single, images, labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def zoom_bilinear(cells, factor):
    """Maps (B, g, g) by linear interpolation between the cells' centres, constant beyond them."""
    side = cells.shape[1]
    centres = (np.arange(side) + 0.5) * factor - 0.5
    weights = np.stack([np.interp(np.arange(side * factor), centres, row) for row in np.eye(side)], axis=1)
    return weights @ cells @ weights.T


def test_a_transformer_with_an_activation_without_rule_is_refused_in_one_line():
    network = in_precision(random_vit(act_layer=nn.SiLU), torch.float32)
    for call in (
        Lrp().check,
        lambda x: Lrp().explain(x, np.zeros((1, 16, 16, 3), np.uint8), np.zeros(1, int)),
    ):
        with pytest.raises(ValueError, match=r"^lrp has no rule for [^\n]*activation SiLU[^\n]*$"):
            call(network)


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        (Torchvision(architecture="mobilenet_v2"), "InvertedResidual"),
        (Timm(architecture="test_convnext"), "ConvNeXtBlock"),
    ],
    ids=["mobilenet", "convnext"],
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
