"""Integrated gradients: completeness, and captum on torchvision's models."""

import captum.attr
import numpy as np
import torch

from components.models.networks.backbones.small_vit import SmallVit
from components.studies.explanations.attributions.integrated_gradients import IntegratedGradients
from components.studies.explanations.explained_network import ExplainedNetwork


def test_it_is_captums_on_torchvisions_model(explained):
    """And the reductions are those of its sum over the channels. Heatmaps are rounded to float32."""
    explained = explained.in_float64()
    ours = IntegratedGradients(n_steps=8, reduction="signed")
    package = captum.attr.IntegratedGradients(explained.plain)
    expected = package.attribute(explained.x, target=explained.targets, n_steps=8).sum(1).numpy()
    signed = ours.explain(explained.network, explained.images, explained.labels)
    assert expected.dtype == np.float64
    np.testing.assert_allclose(signed, expected, rtol=0, atol=2**-23 * np.abs(expected).max())
    assert signed.min() < 0
    for reduction, reduced in (("relu", signed.clip(min=0)), ("abs", np.abs(signed))):
        attribution = IntegratedGradients(n_steps=8, reduction=reduction)
        found = attribution.explain(explained.network, explained.images, explained.labels)
        np.testing.assert_allclose(found, reduced, atol=1e-6 * np.abs(expected).max())


def shortfall(model, x, labels):
    """Of 50 steps: what the attributions add up to, less the difference of the logits; and the logits."""
    found = IntegratedGradients().attributions(model, x, labels).sum((1, 2, 3)).detach()
    with torch.no_grad():
        whole, nothing = (model(y)[range(len(x)), labels] for y in (x, torch.zeros_like(x)))
    return (found - (whole - nothing)).abs(), whole


def test_of_a_smooth_network_it_adds_up_to_the_logit_less_that_of_the_mean_colour(photographs):
    """Sundararajan et al., proposition 1."""
    model = ExplainedNetwork(SmallVit().build(3, 96, 0).eval())
    short, logits = shortfall(model, model.normalised(photographs), np.array([2, 1]))
    assert (short < 1e-4 * logits.abs()).all(), (short, logits)


def test_kinks_of_rectifiers_cost_it_little(explained):
    """SqueezeNet on four photographs of 224 pixels: 0.3 to 1.5 % of the difference. A ResNet-18 that has
    learnt nothing has small logits."""
    short, logits = shortfall(ExplainedNetwork(explained.network), explained.x, explained.labels)
    allowed = 0.02 if logits.min() > 10 else 0.1
    assert (short < allowed * logits.abs()).all(), (short, logits)
