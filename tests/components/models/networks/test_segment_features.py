import numpy as np
import pytest
import torch

from components.data.images import decode, resized
from components.models.networks import segment_features as module
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.backbones.timm import Timm
from components.models.networks.network import to_pixels
from components.models.networks.segment_features import crop_features, pool_features
from components.pixels.frames import framed
from tests import reference

SIDE = 64
STREAM = np.random.default_rng(0)
SIZES = ((64, 64), (48, 80), (128, 32))
IMAGES = [STREAM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
MASKS = [STREAM.random((n, *size)) < 0.3 for n, size in zip((3, 0, 2), SIZES, strict=True)]
SQUARES = [resized(image, SIDE) for image in IMAGES]
BACKBONES = {
    "cnn": SmallCnn(width=4),
    "vit": SmallVit(width=16),
    "class token": Timm(architecture="test_vit"),  # maps of 4 x 4 cells
    "norm after pooling": Timm(architecture="test_convnext"),  # 2 x 2
}


@pytest.fixture(scope="module", params=BACKBONES)
def network(request):
    return BACKBONES[request.param].build(2, SIDE, seed=0).eval()


@pytest.fixture(scope="module")
def maps(network):
    with torch.inference_mode():
        return network.spatial(to_pixels(np.stack(SQUARES), "cpu")).numpy()


def pooled(network, vectors):
    with torch.inference_mode():
        return network.pooled(torch.tensor(np.array(vectors, np.float32))).numpy()


def test_pooling_is_the_mean_over_the_masks_pixels(network, maps):
    """Where cells hold whole pixels, every pixel takes the vector of its cell."""
    features, model_inputs = pool_features(network, SQUARES, MASKS, "squash", "cpu")
    means = [reference.pooled(maps[row], mask) for row in (0, 1, 2) for mask in MASKS[row]]
    np.testing.assert_allclose(features, pooled(network, means), atol=1e-5)
    assert model_inputs == 3


def test_pooling_over_everything_is_the_images_feature(network, maps):
    """Or the mean of all patches, where the image's feature is the class token."""
    everything = [np.ones((1, *size), bool) for size in SIZES]
    features, _ = pool_features(network, SQUARES, everything, "squash", "cpu")
    with torch.inference_mode():
        expected = network.features(to_pixels(np.stack(SQUARES), "cpu"))
    if network.has_class_token:
        expected = maps.mean(axis=(2, 3))
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_masks_go_through_the_frame_of_the_image(network, maps):
    """Of an image twice as wide as high, the middle half is seen."""
    image = STREAM.integers(0, 256, (SIDE, 2 * SIDE, 3), dtype=np.uint8)
    square = framed(image, SIDE, "center_crop")
    np.testing.assert_array_equal(square, image[:, SIDE // 2 : -SIDE // 2])
    masks = STREAM.random((3, SIDE, 2 * SIDE)) < 0.3
    masks[2] = False
    masks[2, :, : SIDE // 2] = True  # nothing of it is seen
    found, _ = pool_features(network, [square], [masks], "center_crop", "cpu")
    seen = masks[:2, :, SIDE // 2 : -SIDE // 2]
    expected, _ = pool_features(network, [square], [seen], "squash", "cpu")
    np.testing.assert_allclose(found[:2], expected, atol=1e-6)
    nothing = pooled(network, np.zeros((1, maps.shape[1])))
    np.testing.assert_allclose(found[2:], nothing, atol=1e-6)


def test_a_mask_within_a_cell_takes_that_cell(network, maps):
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[0, 63, 0] = True
    masks[1, 1:3, 60:62] = True
    features, _ = pool_features(network, SQUARES[:1], [masks], "squash", "cpu")
    np.testing.assert_allclose(features, pooled(network, [maps[0, :, -1, 0], maps[0, :, 0, -1]]), atol=1e-5)


def test_an_empty_mask_and_an_image_of_one_pixel_have_features(network):
    for shape, mask in (((30, 50), np.zeros), ((1, 1), np.ones), ((1, 1), np.zeros), ((1, 300), np.ones)):
        image = STREAM.integers(0, 256, (*shape, 3), dtype=np.uint8)
        segments = [mask((1, *shape), bool)]
        for frame in ("squash", "center_crop"):
            square = framed(image, SIDE, frame)
            assert np.isfinite(pool_features(network, [square], segments, frame, "cpu")[0]).all()
        assert np.isfinite(crop_features(network, [image], segments, SIDE, "cpu")[0]).all()


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


def test_images_without_segments(network):
    nothing = [mask[:0] for mask in MASKS]
    assert crop_features(network, IMAGES, nothing, SIDE, "cpu")[0].shape == (0, network.width)
    assert pool_features(network, SQUARES, nothing, "squash", "cpu")[0].shape == (0, network.width)


def test_masks_of_photographs(test_data):
    """Objects of photographs of any size, against a float64 mean over the pixels of the enlarged map."""
    folder = test_data("seg-mini")
    network = SmallCnn(width=4).build(2, SIDE, seed=0).eval()
    for path in sorted((folder / "images").iterdir())[:3]:
        image = decode(path)
        mask = decode(folder / "masks" / f"{path.stem}.png")[..., 0] == 1
        square = framed(image, SIDE, "squash")
        found, _ = pool_features(network, [square], [mask[None]], "squash", "cpu")
        spatial = network.spatial(to_pixels(np.stack([square]), "cpu"))[0].detach().numpy()
        np.testing.assert_allclose(
            found[0], reference.pooled(spatial, mask), atol=0.02 * np.abs(spatial).max()
        )
