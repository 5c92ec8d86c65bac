"""GradCAM, GradCAM++, ScoreCAM and FullGrad against the package on models that are not ours."""

import csv

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
from PIL import Image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn.functional import interpolate

from components.data.images import decode
from components.metrics.heatmaps import SegmentationScores
from components.models.networks.backbones.timm import Timm
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import dump_tensors, to_pixels
from components.pixels.frames import framed, framed_mask
from components.studies.explanations.attributions.full_grad import FullGrad
from components.studies.explanations.attributions.gradcam import Gradcam
from components.studies.explanations.attributions.gradcam_plus_plus import GradcamPlusPlus
from components.studies.explanations.attributions.score_cam import ScoreCam

SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"
SIDE = 224
BY_GRADIENT = [
    (Gradcam(), pytorch_grad_cam.GradCAM),
    (GradcamPlusPlus(), pytorch_grad_cam.GradCAMPlusPlus),
]


def targets(labels):
    return [ClassifierOutputTarget(int(label)) for label in labels]


@pytest.mark.parametrize(("attribution", "package"), BY_GRADIENT)
def test_by_gradient_it_is_the_packages_on_torchvisions_model(explained, attribution, package):
    for labels in (explained.labels, (explained.labels + 500) % 1000):
        cam = package(explained.plain, [explained.last])
        expected = cam(explained.x.clone().requires_grad_(), targets(labels))
        found = attribution.explain(explained.network, explained.images, labels)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.max() > 0.99


def test_score_cam_is_the_packages_on_torchvisions_model(explained):
    """On the left upper part of one photograph: 512 passes each."""
    image, x = explained.images[:1, :48, :48], explained.x[:1, :, :48, :48]
    with torch.no_grad():
        expected = pytorch_grad_cam.ScoreCAM(explained.plain, [explained.last])(x, targets(explained.labels))
    found = ScoreCam().explain(explained.network, image, explained.labels[:1])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_full_grad_is_the_packages_on_torchvisions_model(explained):
    """The package scales channels, adds them up over up to 27 layers (by chance, so about the root of 27) and
    scales the result in float32: each may be rounded the other way, by 2**-23 of values up to 1."""
    double = explained.in_float64()
    expected = pytorch_grad_cam.FullGrad(double.plain, [])(double.x, targets(double.labels))
    found = FullGrad().explain(double.network, double.images, double.labels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * 2**-23)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99999


@pytest.mark.parametrize(("attribution", "package"), BY_GRADIENT)
def test_of_a_transformer_it_is_the_packages_before_the_last_attention(attribution, package):
    """After it no patch reaches the logits of a class token: the map of the last tokens would be 0."""
    images = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    network = Timm(architecture="test_vit").build(5, 160, 0).eval()
    model = timm.create_model("test_vit", num_classes=5).eval()
    named = dump_tensors(network).items()
    state = {name.replace("trunk.model.", "").replace("head.", "head."): torch.tensor(x) for name, x in named}
    model.load_state_dict(state)
    labels = np.array([3, 1])
    x = ((torch.tensor(images).permute(0, 3, 1, 2) / 255) - 0.5) / 0.5
    cam = package(
        model,
        [model.blocks[-1].norm1],
        reshape_transform=lambda tokens: tokens[:, 1:].unflatten(1, (10, 10)).permute(0, 3, 1, 2),
    )
    found = attribution.explain(network, images, labels)
    np.testing.assert_allclose(found, cam(x.requires_grad_(), targets(labels)), atol=1e-4)
    assert found.max() > 0.99


def scaled(maps):
    maps = maps - maps.amin((-2, -1), keepdim=True)
    return maps / maps.amax((-2, -1), keepdim=True)


def test_gradcam_with_a_linear_head_on_a_mean_is_the_weighted_map(explained, test_data):
    """Zhou et al. 2016: the head's weights at every cell, rectified. So the map of a concept of LF-CBM, whose
    concept layer is linear, needs no gradient."""
    checkpoint = str(test_data(SQUEEZENET))
    network = Torchvision(architecture="squeezenet1_0", checkpoint=checkpoint).build(3, 96, 0).eval()
    pixels = to_pixels(explained.images, "cpu")
    with torch.no_grad():
        cells = torch.einsum("bdhw,d->bhw", network.spatial(pixels), network.head.weight[1])
    expected = interpolate(scaled(cells.clamp(min=0))[:, None], (96, 96), mode="bilinear")[:, 0]
    found = Gradcam().explain(network, explained.images, np.array([1, 1]))
    np.testing.assert_allclose(found, scaled(expected), atol=2e-4)


def test_gradcam_segments_real_photographs_better_than_their_middle(test_data):
    """Of all 100, by the protocol of ImageNet-Segmentation: pixel accuracy 70.9, mean IoU 50.0, mean average
    precision 81.4; with the nearness to the middle as the map: 66.3, 47.1 and 73.7."""
    folder = test_data("seg-mini")
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::4]
    images = np.stack([framed(decode(folder / row["image"]), SIDE, "squash") for row in rows])
    masks = [framed_mask(np.asarray(Image.open(folder / row["mask"])), SIDE, "squash") for row in rows]
    backbone = Torchvision(architecture="squeezenet1_0", checkpoint=str(test_data(SQUEEZENET)))
    network = backbone.build(None, SIDE, 0).eval()
    with torch.no_grad():
        predicted = network(to_pixels(images, "cpu")).argmax(1).numpy()
    maps, middle = SegmentationScores(), SegmentationScores()
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    for heatmap, mask in zip(Gradcam().explain(network, images, predicted), masks, strict=True):
        maps.add(heatmap, mask)
        middle.add(-np.hypot(y, x), mask)
    gain = {name: value - middle.metrics()[name] for name, value in maps.metrics().items()}
    assert gain["mean_average_precision"] > 0.03
    assert gain["pixel_accuracy"] > 0.02
    assert gain["mean_iou"] > 0.01
