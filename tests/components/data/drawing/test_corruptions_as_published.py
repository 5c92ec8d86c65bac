"""Blurs and fog against the published code's statements, done the slow way or by the library that it calls."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from components.data.drawing.corruption_strengths import STRENGTHS
from components.data.drawing.corruptions import SEVERITIES, corrupted

SIDES = (32, 224)


def image_of(side):
    small = np.random.default_rng(side).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)


def grey_levels(x):
    return np.rint(x.clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_the_disk_that_opencv_smooths(severity, side):
    """At 224 pixels and severities 4 and 5 the disk touches the border of its window, which OpenCV mirrors, so
    that the kernel's sum is above 1."""
    radius, alias = STRENGTHS["defocus_blur"][side == 224][severity - 1]
    reach = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    disk = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.float64)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3) if radius <= 8 else (5, 5), alias)
    image = image_of(side)
    expected = grey_levels(cv2.filter2D(image / 255, -1, kernel))
    made = corrupted(image, "defocus_blur", severity, np.random.default_rng(0))
    np.testing.assert_allclose(made.astype(int), expected, atol=1)
    assert made.mean() == pytest.approx(expected.mean(), abs=0.01)
    brighter = {4: 1.013, 5: 1.0108} if side == 224 else {}
    assert kernel.sum() == pytest.approx(brighter.get(severity, 1), abs=0.0005)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_zooms_are_cut_in_whole_pixels(severity, side):
    image = image_of(side) / 255
    zooms = np.arange(1, *STRENGTHS["zoom_blur"][side == 224][severity - 1])
    total = image.copy()
    for factor in zooms:
        cut = int(np.ceil(side / factor))
        start = (side - cut) // 2
        large = zoom(image[start : start + cut, start : start + cut], (factor, factor, 1), order=1)
        more = (len(large) - side) // 2
        total += large[more : more + side, more : more + side]
    made = corrupted(image_of(side), "zoom_blur", severity, np.random.default_rng(0))
    np.testing.assert_allclose(made.astype(int), grey_levels(total / (len(zooms) + 1)), atol=1)


def test_a_small_image_stays_while_a_zoom_takes_no_pixel_away():
    """Of 32 pixels, 32 / 1.03 are cut to 32, and enlarged to 33, of which the last is cut off."""
    image = image_of(32)
    row = corrupted(image, "zoom_blur", 1, np.random.default_rng(0))[0, 0]
    np.testing.assert_array_equal(row, image[0, 0])  # the corner is the corner of every zoom


@pytest.mark.parametrize("glass_blur", ["published", "intended"])
@pytest.mark.parametrize(("side", "severity"), [(32, 1), (32, 4), (224, 1), (224, 4)])
def test_glass_moves_pixels_as_its_statement_does(side, severity, glass_blur):
    """The statement is NumPy's: both sides are views, so that the second assignment reads what the first has
    written. With copies on the right it would do what its comment says."""
    deviation, reach, rounds = STRENGTHS["glass_blur"][side == 224][severity - 1]
    random = np.random.default_rng(3)
    x = gaussian_filter(image_of(side) / 255, (deviation, deviation, 0), mode="nearest")
    for _ in range(rounds):
        places = range(side - reach, reach, -1)
        shifts = random.integers(-reach, reach, (2, len(places), len(places)))
        for i, h in enumerate(places):
            for j, w in enumerate(places):
                a, b = h + shifts[0, i, j], w + shifts[1, i, j]
                if glass_blur == "published":
                    x[h, w], x[a, b] = x[a, b], x[h, w]
                else:
                    x[h, w], x[a, b] = x[a, b].copy(), x[h, w].copy()
    expected = grey_levels(gaussian_filter(x, (deviation, deviation, 0), mode="nearest"))
    made = corrupted(image_of(side), "glass_blur", severity, np.random.default_rng(3), glass_blur)
    np.testing.assert_array_equal(made, expected)


def test_published_glass_loses_pixels_and_intended_glass_none():
    image = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
    coded = np.stack([image // 256, image % 256, image * 0], axis=-1).astype(np.uint8)

    def moved(glass_blur):  # at severity 1 the blur's deviation is 0.05 pixels: none
        made = corrupted(coded, "glass_blur", 1, np.random.default_rng(0), glass_blur).astype(int)
        return made[..., 0] * 256 + made[..., 1]

    assert len(np.unique(moved("intended"))) == 1024
    copied = moved("published")
    inside = (copied - image)[2:, 2:]
    # each pixel is one of four, with a chance of 1/4 for each, before any of them has changed
    assert set(np.unique(inside)) == {0, -1, -32, -33}
    assert [(inside == shift).mean() for shift in (0, -1, -32, -33)] == pytest.approx([0.25] * 4, abs=0.05)
    assert len(np.unique(copied)) < 800


@pytest.mark.parametrize(("severity", "decay"), [(4, 1.5), (5, 1.4)])
def test_the_noise_of_fog_falls_by_the_decay_squared_per_octave(severity, decay):
    """Of white, fog of amount a is (1 + a f) / (1 + a); the noise of an octave is what the middle of a square
    has beside the mean of its corners."""
    amount = STRENGTHS["fog"][1][severity - 1][0]
    white = np.full((256, 256, 3), 255, np.uint8)
    made = corrupted(white, "fog", severity, np.random.default_rng(5))[..., 0] / 255
    fog = (made * (1 + amount) - 1) / amount
    deviations = []
    for step in (32, 16, 8, 4):
        corners = fog[::step, ::step]
        beside = corners + np.roll(corners, -1, axis=1)
        middle = (beside + np.roll(beside, -1, axis=0)) / 4
        deviations.append((fog[step // 2 :: step, step // 2 :: step] - middle).std())
    ratios = np.divide(deviations[:-1], deviations[1:])
    assert ratios == pytest.approx([decay**2] * 3, rel=0.15)
