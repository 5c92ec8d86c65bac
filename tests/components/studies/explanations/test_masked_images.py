"""Masked images, against pictures painted pixel by pixel and passed one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torchvision.transforms.functional import gaussian_blur

from components.models.networks.backbones.small_cnn import SmallCnn
from components.studies.explanations import masked_images
from components.studies.explanations.masked_images import (
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


def pictures_of(*counts):
    """Images with so many coalitions each, and the same painted in grey levels, black where hidden."""
    images = STREAM.integers(0, 256, (len(counts), SIDE, SIDE, 3), dtype=np.uint8)
    pictures, painted = [], []
    for image, count in zip(images, counts, strict=True):
        masks, bits = overlapping(6, count), STREAM.random((count, 6)) < 0.5
        region, members = regions(masks)
        shown = shown_regions(bits, members)
        pictures.append(MaskedImage(image, np.zeros_like(image), region, shown))
        painted.append([image * masks[coalition].any(axis=0)[..., None] for coalition in bits])
    return pictures, painted


def one_by_one(network, painted):
    with torch.no_grad():
        return [
            np.array(
                [network(torch.tensor(x).permute(2, 0, 1)[None]).softmax(1)[0].numpy() for x in of_image]
            )
            for of_image in painted
        ]


def passes_of(network, pictures):
    """What is found, and how many masked images each forward pass had."""
    seen = []
    hook = network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    try:
        return list(probabilities(network, pictures, "cpu")), seen
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ((21, 1, 7), [14, 15]),
        ((17,), [8, 9]),
        ((1, 30, 1, 1), [11, 11, 11]),
        ((16, 16), [16, 16]),
        ((1,), [1]),
    ],
)
def test_forward_passes_are_across_images_alike_in_size_and_equal_to_one_by_one(network, counts, sizes):
    assert AT_ONCE["cpu"] == 16
    pictures, painted = pictures_of(*counts)
    found, seen = passes_of(network, pictures)
    assert seen == sizes, "as few as can be, and none of one while there is more"
    for rows, alone in zip(found, one_by_one(network, painted), strict=True):
        np.testing.assert_allclose(rows, alone, atol=1e-6)


@given(st.lists(st.integers(1, 30), max_size=6), st.integers(1, 20))
def test_blocks_hold_every_row_once_and_differ_by_one_at_most(counts, most):
    blocks = list(masked_images._blocks(counts, most))
    sizes = [sum(rows.stop - rows.start for _, rows in block) for block in blocks]
    assert len(sizes) == -(-sum(counts) // most)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    told = [(place, row) for block in blocks for place, rows in block for row in range(30)[rows]]
    assert told == [(place, row) for place, count in enumerate(counts) for row in range(count)]


def short_of_memory(room, error=torch.OutOfMemoryError):
    """A hook that raises where a pass has more than `room` masked images."""

    def forward(module, given):
        if len(given[0]) > room:
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB")

    return forward


@pytest.mark.parametrize(
    ("room", "sizes"),
    [(16, [14, 15]), (8, [14, 7, 7, 5, 5, 5]), (3, [14, 7, 4, *[2] * 7, *[2] * 7, 1]), (1, None)],
)
def test_where_memory_runs_out_passes_are_halved_and_stay_so(network, room, sizes):
    """29 masked images in blocks of 14 and 15. Nothing is lost and what fits is not tried again."""
    pictures, painted = pictures_of(21, 1, 7)
    hook = network.register_forward_pre_hook(short_of_memory(room), prepend=True)
    seen = []
    count = network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])), prepend=True)
    try:
        found = list(probabilities(network, pictures, "cpu"))
    finally:
        hook.remove()
        count.remove()
    assert seen == (sizes or [14, 7, 4, 2, *[1] * 29])
    for rows, alone in zip(found, one_by_one(network, painted), strict=True):
        np.testing.assert_allclose(rows, alone, atol=1e-6)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_one_masked_image_that_does_not_fit_is_an_error(network, error):
    hook = network.register_forward_pre_hook(short_of_memory(0, error))
    try:
        with pytest.raises(error, match="out of memory"):
            list(probabilities(network, pictures_of(5)[0], "cpu"))
    finally:
        hook.remove()


def test_other_errors_are_not_taken_for_memory(network):
    passed = []

    def broken(module, given):
        passed.append(len(given[0]))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    hook = network.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="shapes"):
            list(probabilities(network, pictures_of(5)[0], "cpu"))
    finally:
        hook.remove()
    assert passed == [5]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_probability_that_is_not_finite_is_an_error(value):
    network = SmallCnn(width=4).build(5, SIDE, seed=0).eval()
    with torch.no_grad():
        network.head.bias[3] = value
    with pytest.raises(ValueError, match="a probability is not finite"):
        list(probabilities(network, pictures_of(3)[0], "cpu"))


def test_gradients_are_on_again_after_the_passes(network):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture = MaskedImage(image, image, np.zeros((SIDE, SIDE), np.int64), np.ones((1, 1), bool))
    for _ in probabilities(network, [picture], "cpu"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("side", [SIDE, 224])
def test_rises_blur_is_its_codes_convolution_of_the_normalised_image(network, side):
    """A Gaussian-filtered impulse of 11 by 11 pixels of 224 as kernel, zeros beyond the border."""
    image = STREAM.integers(0, 256, (side, side, 3), dtype=np.uint8)
    reach = round(5 * side / 224)
    impulse = np.zeros((2 * reach + 1, 2 * reach + 1))
    impulse[reach, reach] = 1
    kernel = torch.tensor(gaussian_filter(impulse, 5 * side / 224)).expand(3, 1, -1, -1)
    mean, std = network.mean.double(), network.std.double()
    normalised = (torch.tensor(image).permute(2, 0, 1)[None] / 255.0 - mean) / std
    blurred = torch.nn.functional.conv2d(normalised, kernel, padding=reach, groups=3)
    expected = ((blurred * std + mean) * 255)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(filling(network, image, "rise_blur"), expected, atol=0.51)
    assert np.abs(filling(network, image, "blur") - expected).max() > 3, "the other choice is another"


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
