import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from components.frames import frame_box, framed
from components.images import decode, resized

NOISE = np.random.default_rng(0)


def by_torchvision(image, size):
    return np.asarray(Compose([Resize(size), CenterCrop(size)])(Image.fromarray(image)))


def test_the_middle_of_photographs_against_torchvision(test_data):
    for path in sorted((test_data("imagenet-mini") / "images").iterdir())[:8]:
        image = decode(path)
        for size in (224, 96):
            difference = np.abs(framed(image, size, "center_crop").astype(int) - by_torchvision(image, size))
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.01


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_any_shape_against_torchvision(height, width, size):
    image = NOISE.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found, expected = framed(image, size, "center_crop"), by_torchvision(image, size)
    assert found.shape == expected.shape == (size, size, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


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
    assert frame_box(40, 80, 20, "center_crop") == (20, 0, 60, 40)
    assert frame_box(90, 30, 15, "center_crop") == (0, 30, 30, 60)
    assert frame_box(90, 30, 15, "squash") == (0, 0, 30, 90)
