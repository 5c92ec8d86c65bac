"""Common corruptions of photographs (Hendrycks and Dietterich 2019, arXiv 1903.12261), at five severities.

All of the paper's 15 but frost, which pastes photographs of ice. Lengths are scaled with the image's shorter
side over the one that the strengths were made for, 32 or 224. As published, at these sides: noises,
defocus_blur, glass_blur, zoom_blur, fog, brightness, contrast, pixelate, jpeg_compression. Near to what is
published: snow and motion_blur (a trail drawn here, there by ImageMagick). The published idea with our own
strengths: elastic_transform. At other sides defocus_blur has a disk of the same variance. Values are rounded
to grey levels, where the published code cuts them off, glass_blur's twice. The random numbers are others in
any case: for numbers on the published sets, read their files. Written here because no package of them
installs beside what is here: imagecorruptions needs an old setuptools, its fork OpenCV with windows.

The published glass_blur copies a pixel over its neighbour where it says that the two change places: NumPy
assigns to a view that has changed by then. All published numbers are of copies, so `published` is the default
and `intended` the other choice.

x is an image float64 (H, W, 3) in [0, 1]; `scale` the factor of lengths.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.signal import fftconvolve
from skimage.color import hsv2rgb, rgb2gray, rgb2hsv

from components.data.drawing.corruption_strengths import SEVERITIES, SIDES, SMALL, STRENGTHS

Floats = NDArray[np.float64]
Generator = np.random.Generator

CORRUPTIONS = tuple(STRENGTHS)
GlassBlur = Literal["published", "intended"]


def corrupted(
    image: NDArray[np.uint8],
    corruption: str,
    severity: int,
    random: Generator,
    glass_blur: GlassBlur = "published",
) -> NDArray[np.uint8]:
    """The image uint8 (H, W, 3) with one of CORRUPTIONS at a severity of SEVERITIES, same shape. glass_blur:
    whether it copies pixels, as published, or lets them change places, as intended.

    All that is random is drawn from `random`. Raises ValueError for another corruption, severity or shape.
    """
    if corruption not in STRENGTHS:
        raise ValueError(f"unknown corruption {corruption!r}; there is: {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity} is not one of 1 to 5")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    side = min(image.shape[:2])
    large = int(side >= SMALL)
    strength = STRENGTHS[corruption][large][severity - 1]
    function = FUNCTIONS[corruption]
    if corruption == "glass_blur" and glass_blur == "intended":
        function = partial(_glass_blur, swap=True)
    changed = function(image / 255, strength, side / SIDES[large], random)
    return np.rint(changed.clip(0, 1) * 255).astype(np.uint8)


def _gaussian_noise(x: Floats, deviation: float, scale: float, random: Generator) -> Floats:
    return x + random.normal(0, deviation, x.shape)


def _shot_noise(x: Floats, photons: float, scale: float, random: Generator) -> Floats:
    return random.poisson(x * photons) / photons


def _impulse_noise(x: Floats, share: float, scale: float, random: Generator) -> Floats:
    hit, white = random.random(x.shape) < share, random.random(x.shape) < 0.5
    return np.where(hit, white, x)


def _defocus_blur(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    radius, alias = strength
    half = max(8, radius)
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (rows**2 + columns**2 <= radius**2).astype(float)
    reach = 1 if radius <= 8 else 2
    # smoothed by OpenCV with its mirrored border: where the disk touches it, the kernel's sum is not 1
    kernel = ndimage.gaussian_filter(disk / disk.sum(), alias, radius=reach, mode="mirror")
    if scale == 1:
        return _convolved(x, kernel)
    return _convolved(x, _disk(2 * scale * np.sqrt((kernel * rows**2).sum() / kernel.sum())))


def _disk(radius: float) -> Floats:
    """The share of each pixel in a disk, whose variance in each direction is radius**2 / 4."""
    if radius < 1 / 8:  # smaller than the places that are counted
        return np.ones((1, 1))
    half = int(np.ceil(radius + 0.5))
    fine = (np.arange(-half * 8 - 4, half * 8 + 4) + 0.5) / 8  # 8 x 8 places in each pixel
    inside = np.hypot(fine[:, None], fine) <= radius
    cover = inside.reshape(2 * half + 1, 8, 2 * half + 1, 8).sum(axis=(1, 3))
    return cover / cover.sum()


def _glass_blur(x: Floats, strength: Any, scale: float, random: Generator, swap: bool = False) -> Floats:
    deviation, reach, rounds = strength
    deviation, reach = deviation * scale, max(1, round(reach * scale))
    height, width = x.shape[:2]
    blurred = ndimage.gaussian_filter(x, (deviation, deviation, 0), mode="nearest")
    order = _displaced(height, width, reach, rounds, swap, random)
    moved = blurred.reshape(-1, 3)[order].reshape(x.shape)
    return ndimage.gaussian_filter(moved, (deviation, deviation, 0), mode="nearest")


def _displaced(height: int, width: int, reach: int, rounds: int, swap: bool, random: Generator) -> list[int]:
    """Which pixel stands at each place after each, from the last to the first, has taken over one up to
    `reach` rows and columns before it, or less than that behind it; with `swap` that one takes over its own
    in turn. The first `reach` + 1 rows and columns and the last `reach` - 1 take over nothing."""
    order = list(range(height * width))
    rows, columns = np.arange(height - reach, reach, -1)[:, None], np.arange(width - reach, reach, -1)
    here = (rows * width + columns).ravel().tolist()
    for _ in range(rounds):
        down, right = random.integers(-reach, reach, (2, rows.size, columns.size))
        there = ((rows + down) * width + columns + right).ravel().tolist()
        for place, other in zip(here, there, strict=True):
            own, order[place] = order[place], order[other]
            if swap:
                order[other] = own
    return order


def _motion_blur(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    half, deviation = strength
    return _moved(x, half * scale, deviation * scale, random.uniform(-45, 45))


def _moved(x: Floats, half: float, deviation: float, angle: float) -> Floats:
    """Motion in one direction, `angle` in degrees: the trail of a pixel fades as half a Gaussian."""
    steps = np.arange(2 * round(half) + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    steps, weights = steps[weights > 1e-4], weights[weights > 1e-4]
    turn = np.deg2rad(angle)
    offsets = np.rint(steps[:, None] * [np.sin(turn), np.cos(turn)]).astype(int)
    side = len(steps) - 1
    kernel = np.zeros((2 * side + 1, 2 * side + 1))
    np.add.at(kernel, tuple((offsets + side).T), weights / weights.sum())
    return _convolved(x, kernel)


def _zoom_blur(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    end, step = strength
    zooms = np.arange(1, end, step)
    return (x + sum(_zoomed(x, zoom) for zoom in zooms)) / (len(zooms) + 1)


def _zoomed(x: Floats, zoom: float) -> Floats:
    """The middle of (H, W) or (H, W, 3), enlarged to the whole, bilinear. It is cut in whole pixels and its
    corners go to the corners, so that a small image stays as it is until `zoom` takes a pixel away."""
    sides = x.shape[:2]
    cuts = [int(np.ceil(side / zoom)) for side in sides]
    middle = tuple(
        slice((side - cut) // 2, (side - cut) // 2 + cut) for side, cut in zip(sides, cuts, strict=True)
    )
    large = ndimage.zoom(x[middle], (zoom, zoom, 1)[: x.ndim], order=1)
    more = [(made - side) // 2 for made, side in zip(large.shape, sides, strict=False)]
    return large[more[0] : more[0] + sides[0], more[1] : more[1] + sides[1]]


def _snow(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    mean, deviation, zoom, threshold, half, along, kept = strength
    # flakes are as many pixels wide as the image is enlarged
    flakes = _zoomed(random.normal(mean, deviation, x.shape[:2]), zoom * max(1.0, scale)).clip(0, 1)
    flakes[flakes < threshold] = 0
    angle = random.uniform(-135, -45)
    flakes = _moved(flakes[..., None], half * scale, along * scale, angle)
    whitened = np.maximum(x, 1.5 * rgb2gray(x)[..., None] + 0.5)
    return kept * x + (1 - kept) * whitened + flakes + flakes[::-1, ::-1]


def _fog(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    amount, decay = strength
    fog = _plasma(max(x.shape[:2]), decay, random)[: x.shape[0], : x.shape[1], None]
    return (x + amount * fog) * x.max() / (x.max() + amount)


def _plasma(side: int, decay: float, random: Generator) -> Floats:
    """A fractal in [0, 1] that wraps around, by midpoint displacement (diamond and square steps): half the
    distance, noise divided by `decay` squared. Its side is the next power of two."""
    size = 2 ** int(np.ceil(np.log2(max(side, 2))))
    field = np.zeros((size, size))
    step, noise = size, 1.0  # the published noise: a shrinking number times one drawn up to that number
    while step > 1:
        half = step // 2
        corners = field[::step, ::step]
        across = corners + np.roll(corners, -1, axis=0)
        middle = (across + np.roll(across, -1, axis=1)) / 4
        middle += noise * random.uniform(-1, 1, middle.shape)
        field[half::step, half::step] = middle
        beside = corners + np.roll(corners, -1, axis=1) + middle + np.roll(middle, 1, axis=0)
        below = corners + np.roll(corners, -1, axis=0) + middle + np.roll(middle, 1, axis=1)
        field[::step, half::step] = beside / 4 + noise * random.uniform(-1, 1, middle.shape)
        field[half::step, ::step] = below / 4 + noise * random.uniform(-1, 1, middle.shape)
        step, noise = half, noise / decay**2
    field -= field.min()
    return field / field.max()


def _brightness(x: Floats, added: float, scale: float, random: Generator) -> Floats:
    hsv = rgb2hsv(x)
    hsv[..., 2] = (hsv[..., 2] + added).clip(0, 1)
    return hsv2rgb(hsv)


def _contrast(x: Floats, kept: float, scale: float, random: Generator) -> Floats:
    mean = x.mean(axis=(0, 1))
    return mean + kept * (x - mean)


def _elastic_transform(x: Floats, strength: Any, scale: float, random: Generator) -> Floats:
    displacement, smoothness, shift = np.array(strength) * scale
    height, width = x.shape[:2]
    bend = ndimage.gaussian_filter(random.uniform(-1, 1, (2, height, width)), (0, smoothness, smoothness))
    bend *= displacement / np.sqrt((bend**2).mean())
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corners = random.uniform(-shift, shift, (2, 3))[
        ..., None, None
    ]  # an affine map: it moves by a + b y + c x
    moved = (corners[:, 0] + corners[:, 1] * rows + corners[:, 2] * columns) / 3 + bend
    places = np.mgrid[:height, :width] + moved
    channels = [
        ndimage.map_coordinates(x[..., channel], places, order=1, mode="reflect") for channel in range(3)
    ]
    return np.stack(channels, axis=-1)


def _pixelate(x: Floats, share: float, scale: float, random: Generator) -> Floats:
    image = _picture(x)
    size = max(1, int(image.width * share)), max(1, int(image.height * share))
    small = image.resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255


def _jpeg_compression(x: Floats, quality: int, scale: float, random: Generator) -> Floats:
    file = BytesIO()
    _picture(x).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


def _picture(x: Floats) -> Image.Image:
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


def _convolved(x: Floats, kernel: Floats) -> Floats:
    """x (H, W, channels) with an odd kernel, mirrored at the borders."""
    half = len(kernel) // 2
    padded = np.pad(x, ((half, half), (half, half), (0, 0)), mode="reflect")
    return fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))


FUNCTIONS: dict[str, Callable[[Floats, Any, float, Generator], Floats]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
