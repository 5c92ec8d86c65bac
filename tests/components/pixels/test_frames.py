import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.transforms._presets import ImageClassification

from components.frames import frame_box, framed
from components.images import decode, resized

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
