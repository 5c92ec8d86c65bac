import numpy as np
import pytest
import torch

from components.images import resized
from components.models import segment_features as module
from components.models.backbones.small_cnn import SmallCnn
from components.models.network import to_pixels
from components.models.segment_features import crop_features, pool_features
from tests import reference

SIDE = 64
STREAM = np.random.default_rng(0)
SIZES = ((64, 64), (48, 80), (128, 32))
IMAGES = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
MASKS = [STREAM.random((n, *size)) < 0.3 for n, size in zip((3, 0, 2), SIZES, strict=True)]


@pytest.fixture(scope="module")
def network():
    return SmallCnn(width=4).build(2, SIDE, seed=0).eval()


def test_pooling_is_the_mean_over_the_masks_pixels(network):
    """Where cells hold whole pixels, every pixel takes the vector of its cell."""
    features, model_inputs = pool_features(network, IMAGES, MASKS, SIDE, "cpu")
    squares = np.stack([resized(image, SIDE) for image in IMAGES])
    with torch.inference_mode():
        maps = network.spatial(to_pixels(squares, "cpu")).numpy()
    expected = [reference.pooled(maps[row], mask) for row in (0, 1, 2) for mask in MASKS[row]]
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert model_inputs == 3


def test_pooling_over_everything_is_the_images_feature(network):
    everything = [np.ones((1, *size), bool) for size in SIZES]
    features, _ = pool_features(network, IMAGES, everything, SIDE, "cpu")
    squares = np.stack([resized(image, SIDE) for image in IMAGES])
    with torch.inference_mode():
        np.testing.assert_allclose(features, network.features(to_pixels(squares, "cpu")), atol=1e-5)


def test_a_mask_of_one_pixel_has_features(network):
    mask = np.zeros((1, 50, 30), bool)
    mask[0, 49, 0] = True
    image = STREAM.integers(0, 256, (50, 30, 3), dtype=np.uint8)
    for encode in (pool_features, crop_features):
        assert np.isfinite(encode(network, [image], [mask], SIDE, "cpu")[0]).all()


@pytest.mark.parametrize("at_once", [256, 2])
def test_crops_against_the_crops_themselves(network, monkeypatch, at_once):
    monkeypatch.setattr(module, "CROPS_AT_ONCE", at_once)
    features, model_inputs = crop_features(network, IMAGES, MASKS, SIDE, "cpu")
    exact = [reference.crop(image, m, 0.1) for image, masks in zip(IMAGES, MASKS, strict=True) for m in masks]
    squares = np.stack([resized(crop.astype(np.uint8), SIDE) for crop in exact])
    with torch.inference_mode():
        expected = network.features(to_pixels(squares, "cpu"))
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert model_inputs == 5


@pytest.mark.parametrize("encode", [crop_features, pool_features])
def test_images_without_segments(network, encode):
    nothing = [mask[:0] for mask in MASKS]
    assert encode(network, IMAGES, nothing, SIDE, "cpu")[0].shape == (0, 16)
