"""Masked images, against pictures painted pixel by pixel and passed one by one."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from components.models.backbones.small_cnn import SmallCnn
from components.models.masked_images import (
    AT_ONCE,
    MaskedImage,
    filling,
    probabilities,
    regions,
    shown_regions,
)

SIDE = 24
STREAM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    return SmallCnn(width=4).build(5, SIDE, seed=0).eval()


def overlapping(n, seed=0):
    """Rectangles, the second of which is a copy of the first, and pixels in none."""
    stream = np.random.default_rng(seed)
    masks = np.zeros((n, SIDE, SIDE), bool)
    for mask in masks:
        (top, bottom), (left, right) = (np.sort(stream.integers(0, SIDE, 2)) for _ in range(2))
        mask[top : bottom + 1, left : right + 1] = True
    masks[1:2] = masks[:1]
    return masks


@pytest.mark.parametrize("n", [0, 1, 8, 9, 400])
def test_regions_are_the_pixels_of_the_same_masks(n):
    masks = overlapping(n)
    region, members = regions(masks)
    np.testing.assert_array_equal(members[region], np.moveaxis(masks, 0, -1))
    assert len(np.unique(members, axis=0)) == len(members) == region.max() + 1


@pytest.mark.parametrize("n", [1, 3, 400])
def test_a_coalition_shows_the_union_of_its_masks(n):
    masks, bits = overlapping(n), STREAM.random((20, n)) < min(0.5, 3 / n)
    region, members = regions(masks)
    shown = shown_regions(bits, members)[:, region]
    for row, coalition in zip(shown, bits, strict=True):
        np.testing.assert_array_equal(row, masks[coalition].any(axis=0))


def test_forward_passes_are_full_and_equal_to_one_by_one(network):
    """Three images of which the last has less than a block, painted in grey levels, black where hidden."""
    images = STREAM.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    counts = (AT_ONCE["cpu"] + 5, 1, 7)
    pictures, painted = [], []
    for image, count in zip(images, counts, strict=True):
        masks, bits = overlapping(6, count), STREAM.random((count, 6)) < 0.5
        region, members = regions(masks)
        shown = shown_regions(bits, members)
        pictures.append(MaskedImage(image, np.zeros_like(image), region, shown))
        painted.append([image * masks[coalition].any(axis=0)[..., None] for coalition in bits])
    seen = []
    hook = network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    found = list(probabilities(network, pictures, "cpu"))
    hook.remove()
    assert seen == [AT_ONCE["cpu"], 13]
    with torch.no_grad():
        for rows, whole in zip(found, painted, strict=True):
            alone = [network(torch.tensor(p).permute(2, 0, 1)[None]).softmax(1)[0].numpy() for p in whole]
            np.testing.assert_allclose(rows, alone, atol=1e-6)


def test_gradients_are_on_again_after_the_passes(network):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture = MaskedImage(image, image, np.zeros((SIDE, SIDE), np.int64), np.ones((1, 1), bool))
    for _ in probabilities(network, [picture], "cpu"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_what_hidden_pixels_show(network):
    image = STREAM.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert not filling(network, image, "black").any()
    mean = torch.tensor(np.array(filling(network, image, "mean"))).permute(2, 0, 1)[None]
    assert ((mean / 255 - network.mean) / network.std).abs().max() < 0.5 / 255 / network.std.min() + 1e-6
    large = np.kron(image[:28, :28], np.ones((8, 8, 1), np.uint8))  # 224 pixels: a kernel of 11
    blurred = filling(network, large, "blur").astype(float)
    expected = gaussian_blur(torch.tensor(large).permute(2, 0, 1).float(), [11, 11], [5.0, 5.0])
    inner = slice(5, -5)
    np.testing.assert_allclose(
        blurred[inner, inner], expected.permute(1, 2, 0).numpy()[inner, inner], atol=0.51
    )
