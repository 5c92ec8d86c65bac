import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from torchvision.transforms._presets import ImageClassification

from components.data.images import decode, resized
from components.data.mask_files import IGNORE
from components.pixels.frames import frame_box, framed, framed_mask

NOISE = np.random.default_rng(0)


CROPS = {"center_crop": lambda size: size, "center_crop_256": lambda size: round(size * 256 / 224)}


def by_torchvision(image, size, shorter):
    return np.asarray(Compose([Resize(shorter), CenterCrop(size)])(Image.fromarray(image)))


@pytest.mark.parametrize("frame", CROPS)
def test_the_middle_of_photographs_against_torchvision(test_data, frame):
    for path in sorted((test_data("imagenet-mini") / "images").iterdir())[:8]:
        image = decode(path)
        for size in (224, 96):
            expected = by_torchvision(image, size, CROPS[frame](size))
            difference = np.abs(framed(image, size, frame).astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.01


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.sampled_from(sorted(CROPS)))
def test_any_shape_against_torchvision(height, width, size, frame):
    image = NOISE.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found, expected = framed(image, size, frame), by_torchvision(image, size, CROPS[frame](size))
    assert found.shape == expected.shape == (size, size, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_imagenets_frame_is_224_of_256(test_data):
    """What torchvision's own preset for its weights makes of a photograph, before it normalises."""
    preset = ImageClassification(crop_size=224, resize_size=256, antialias=True)
    image = decode(sorted((test_data("imagenet-mini") / "images").iterdir())[0])
    normalised = preset(Image.fromarray(image))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
    expected = (normalised * std + mean).permute(1, 2, 0).numpy() * 255
    found = framed(image, 224, "center_crop_256")
    assert np.abs(found - expected).max() < 1.01
    assert np.abs(framed(image, 224, "center_crop") - expected).max() > 30


def test_squashing_is_a_plain_resize(test_data):
    image = decode(sorted((test_data("imagenet-mini") / "images").iterdir())[0])
    np.testing.assert_array_equal(framed(image, 96, "squash"), resized(image, 96))


@pytest.mark.parametrize("frame", ["squash", "center_crop"])
def test_a_square_of_the_size_stays_as_it_is(frame):
    image = NOISE.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(framed(image, 32, frame), image)


def test_a_very_long_image_takes_no_more_memory_than_its_middle():
    """Resized as a whole, it would have 64 x 6,400,000 pixels."""
    image = np.zeros((1, 100_000, 3), np.uint8)
    image[:, 50_000:] = 200
    found = framed(image, 64, "center_crop")
    assert (np.diff(found[..., 0].astype(int), axis=1) >= 0).all()
    assert found[:, :32].max() < 100 <= found[:, 32:].min()


def test_what_a_frame_shows():
    assert frame_box(256, 512, 224, "center_crop_256") == (144, 16, 368, 240)
    assert frame_box(40, 80, 20, "center_crop") == (20, 0, 60, 40)
    assert frame_box(90, 30, 15, "center_crop") == (0, 30, 30, 60)
    assert frame_box(90, 30, 15, "squash") == (0, 0, 30, 90)


def mask_by_torchvision(mask, size, frame):
    nearest = InterpolationMode.NEAREST
    squash, crop = [Resize((size, size), nearest)], [Resize(size, nearest), CenterCrop(size)]
    return np.asarray(Compose(squash if frame == "squash" else crop)(Image.fromarray(mask)))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_masks_are_framed_as_torchvision_does(height, width, size):
    """Where a middle falls between two pixels, rounding decides."""
    rows, columns = np.indices((height, width), dtype=np.uint8)
    for coordinates in (rows, columns):
        np.testing.assert_array_equal(
            framed_mask(coordinates, size, "squash"), mask_by_torchvision(coordinates, size, "squash")
        )
        cropped = framed_mask(coordinates, size, "center_crop").astype(int)
        assert np.abs(cropped - mask_by_torchvision(coordinates, size, "center_crop")).max() <= 1


def test_masks_of_photographs_are_framed_as_torchvision_does(test_data):
    for path in sorted((test_data("seg-mini") / "masks").iterdir())[::10]:
        mask = np.asarray(Image.open(path))
        assert set(np.unique(mask)) <= {0, 1, IGNORE}
        for frame in ("squash", "center_crop"):
            assert (framed_mask(mask, 224, frame) == mask_by_torchvision(mask, 224, frame)).mean() > 0.999


@pytest.mark.parametrize("frame", ["squash", "center_crop"])
def test_boolean_masks_of_the_size_stay(frame):
    disc = (np.hypot(*(np.indices((96, 96)) - 48)) < 30).astype(np.uint8)
    np.testing.assert_array_equal(framed_mask(disc == 1, 96, frame), disc)
