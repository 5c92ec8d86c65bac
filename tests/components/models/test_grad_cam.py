"""GradCAM against its own definition, and on real photographs with masks."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from components.frames import framed
from components.images import decode
from components.metrics.heatmaps import SegmentationScores, framed_mask
from components.models.backbone import IMAGENET
from components.models.backbones.torchvision import Torchvision
from components.models.grad_cam import grad_cam
from components.models.network import Network, to_pixels

SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"
SIDE = 224


@pytest.fixture(scope="module")
def squeezenet(test_data):
    return Torchvision(architecture="squeezenet1_0", checkpoint=str(test_data(SQUEEZENET)))


@pytest.fixture(scope="module")
def photographs(test_data):
    """Every fourth, as squares, and their masks."""
    folder = test_data("seg-mini")
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::4]
    images = np.stack([framed(decode(folder / row["image"]), SIDE, "squash") for row in rows])
    masks = [framed_mask(np.asarray(Image.open(folder / row["mask"])), SIDE, "squash") for row in rows]
    return images, masks


def scaled(maps):
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / maps.amax((-2, -1), keepdim=True)


def test_with_the_squeezenets_own_head_it_is_the_gradient_written_out(squeezenet, photographs):
    """Selvaraju et al., equations 1 and 2, for classes that are and that are not there."""
    network, images = squeezenet.build(None, SIDE, 0).eval(), photographs[0][:3]
    with torch.no_grad():
        predicted = network(to_pixels(images, "cpu")).argmax(1).numpy()
    for labels in (predicted, (predicted + 500) % 1000):
        features = network.spatial(to_pixels(images, "cpu")).detach().requires_grad_()
        logits = network.head(network.pool(features))
        logits[torch.arange(3), torch.tensor(labels)].sum().backward()
        weights = features.grad.mean((-2, -1), keepdim=True)
        expected = scaled((weights * features).sum(1).clamp(min=0))
        expected = scaled(interpolate(expected[:, None], (SIDE, SIDE), mode="bilinear")[:, 0])
        found = grad_cam(network, images, labels)
        assert found.shape == (3, SIDE, SIDE)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.detach(), atol=2e-4)


def test_with_a_linear_head_on_a_mean_it_is_the_weighted_map(squeezenet, photographs):
    """Zhou et al. 2016: the head's weights at every cell, rectified. So the map of a concept of LF-CBM, whose
    concept layer is linear, needs no gradient."""
    network, images = squeezenet.build(3, SIDE, 0).eval(), photographs[0][:2]
    with torch.no_grad():
        cells = torch.einsum("bdhw,d->bhw", network.spatial(to_pixels(images, "cpu")), network.head.weight[1])
    expected = interpolate(scaled(cells.clamp(min=0))[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
    found = grad_cam(network, images, np.array([1, 1]))
    np.testing.assert_allclose(found, scaled(expected), atol=2e-4)


def test_real_photographs_are_segmented_better_than_by_their_middle(squeezenet, photographs):
    """Of all 100, by the protocol of ImageNet-Segmentation: pixel accuracy 70.9, mean IoU 50.0, mean average
    precision 81.4; with the nearness to the middle as the map: 66.3, 47.1 and 73.7."""
    images, masks = photographs
    network = squeezenet.build(None, SIDE, 0).eval()
    with torch.no_grad():
        predicted = network(to_pixels(images, "cpu")).argmax(1).numpy()
    maps, middle = SegmentationScores(), SegmentationScores()
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    for heatmap, mask in zip(grad_cam(network, images, predicted), masks, strict=True):
        maps.add(heatmap, mask)
        middle.add(-np.hypot(y, x), mask)
    gain = {name: value - middle.metrics()[name] for name, value in maps.metrics().items()}
    assert gain["mean_average_precision"] > 0.03
    assert gain["pixel_accuracy"] > 0.02
    assert gain["mean_iou"] > 0.01


def test_it_leaves_the_network_as_it_was(squeezenet, photographs):
    network, images = squeezenet.build(2, SIDE, 0).eval(), photographs[0][:1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = grad_cam(network, images, np.array([0]))
    np.testing.assert_array_equal(grad_cam(network, images, np.array([0])), first)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.trunk._forward_hooks


def test_tokens_and_unknown_labels_are_refused():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    tokens = Network(nn.Flatten(), nn.Linear(2, 2), 2, IMAGENET, prefix_tokens=1)
    with pytest.raises(ValueError, match="tokens"):
        grad_cam(tokens, images, np.array([0]))
    network = Network(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), 4, IMAGENET).eval()
    with pytest.raises(IndexError):
        grad_cam(network, images, np.array([2]))
