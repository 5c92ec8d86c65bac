"""What a classifier makes of images of which only some masks are shown.

n masks of an image, m coalitions of them, r regions: pixels that lie in exactly the same masks. H W pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter, gaussian_filter1d
from torch import Tensor

from components.models.networks.network import Network
from components.models.weights.device_memory import free_memory, out_of_memory
from components.pixels.masks import FRAME
from components.studies.explanations.fill import Fill

SIGMA = (
    5.0  # of the blurs, in pixels of a 224 frame; they end after one sigma, so that they are 11 pixels wide
)
AT_ONCE = {"cpu": 16, "cuda": 256}  # most masked images of one forward pass; more are slower on a CPU


@dataclass(frozen=True)
class MaskedImage:
    """An image and what stands for its hidden pixels, uint8 (H, W, 3); the region of each pixel, int64
    (H, W); which regions each of m pictures shows, bool (m, r)."""

    image: NDArray[np.uint8]
    filling: NDArray[np.uint8]
    region: NDArray[np.int64]
    shown: NDArray[np.bool_]


def filling(network: Network, image: NDArray[np.uint8], fill: Fill) -> NDArray[np.uint8]:
    """What stands for hidden pixels of an image (H, W, 3): a picture of its shape. The mean colour is the
    grey level next to it."""
    if fill == "black":
        return np.zeros_like(image)
    if fill == "mean":
        colour = (network.mean.reshape(3) * 255).round().to(torch.uint8).cpu().numpy()
        return np.broadcast_to(colour, image.shape)
    pixels, sigma = image.astype(np.float32), SIGMA * image.shape[0] / FRAME
    if fill == "blur":
        return gaussian_filter(pixels, (sigma, sigma, 0), truncate=1).round().astype(np.uint8)
    mean = network.mean.reshape(3).cpu().numpy() * 255  # 0 once normalised: what the code's convolution pads
    impulse = np.zeros(2 * round(sigma) + 1)
    impulse[len(impulse) // 2] = 1
    kernel = gaussian_filter1d(impulse, sigma)  # mirrored at the ends of so short a line: its tails fold back
    pixels = pixels - mean
    for axis in (0, 1):
        pixels = correlate1d(pixels, kernel, axis, mode="constant")
    return (pixels + mean).round().astype(np.uint8)


def regions(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The region of each pixel, (H, W), and which masks (r, n) each region lies in, of masks (n, H, W)."""
    n, height, width = masks.shape
    flat = np.concatenate([masks.reshape(n, height * width), np.zeros((1, height * width), bool)])
    codes = np.ascontiguousarray(np.packbits(flat, axis=0).T)
    keys, region = np.unique(codes.view(f"V{codes.shape[1]}").reshape(-1), return_inverse=True)
    members = np.unpackbits(keys.view(np.uint8).reshape(len(keys), -1), axis=1)[:, :n]
    return region.reshape(height, width), members.astype(bool)


def shown_regions(coalitions: NDArray[np.bool_], members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which regions (m, r) the union of each coalition's masks shows."""
    return (coalitions.astype(np.float32) @ members.T.astype(np.float32)) > 0


def probabilities(
    network: Network, images: Sequence[MaskedImage], device: str
) -> Iterator[NDArray[np.float32]]:
    """Of all classes, (m, C), for one image after the other. Forward passes are across images, and as equal
    in size as can be, so that no masked image is left to the end alone. Where the device's memory runs out
    they are halved, down to one masked image, and stay so.

    Raises ValueError if a probability is not finite.
    """
    counts = [len(image.shown) for image in images]
    limit = AT_ONCE[device.partition(":")[0]]
    parts: list[NDArray[np.float32]] = []
    for block in _blocks(counts, limit):
        pictures = torch.cat([_pictures(images[place], rows, device) for place, rows in block])
        found, limit = _fitting(network, pictures, limit)
        if not np.isfinite(found).all():
            raise ValueError("a probability is not finite")
        for place, rows in block:
            length = rows.stop - rows.start
            parts.append(found[:length])
            found = found[length:]
            if rows.stop == counts[place]:
                yield np.concatenate(parts)
                parts = []


def _fitting(network: Network, pictures: Tensor, limit: int) -> tuple[NDArray[np.float32], int]:
    """Probabilities of pictures (m, H, W, 3), and how many of them the device's memory holds at once: at most
    `limit`."""
    while True:
        passes = pictures.tensor_split(math.ceil(len(pictures) / limit))
        try:
            return np.concatenate([_forward(network, part) for part in passes]), limit
        except Exception as error:  # torch has several kinds of it
            if len(passes[0]) == 1 or not out_of_memory(error):
                raise
        limit = math.ceil(len(passes[0]) / 2)
        free_memory()


@torch.inference_mode()
def _forward(network: Network, pictures: Tensor) -> NDArray[np.float32]:
    return network(pictures.permute(0, 3, 1, 2)).softmax(dim=1).cpu().numpy()


def _blocks(counts: Sequence[int], size: int) -> Iterator[list[tuple[int, slice]]]:
    """Cuts counts[0] + counts[1] + ... rows in blocks of at most `size`, as few and as equal as can be: which
    rows of which image each has."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    n = math.ceil(total / size)
    for first, last in pairwise(total * block // n for block in range(n + 1) if n):
        yield [
            (place, slice(max(first - start, 0), min(last - start, count)))
            for place, (start, count) in enumerate(zip((ends - counts).tolist(), counts, strict=True))
            if start < last and first < start + count
        ]


def _pictures(image: MaskedImage, rows: slice, device: str) -> Tensor:
    """Pictures uint8 (m, H, W, 3): the arithmetic is on grey levels, before any normalisation."""
    shown = torch.from_numpy(image.shown[rows]).to(device)
    region = torch.from_numpy(image.region.reshape(-1)).to(device)
    visible = shown[:, region].view(len(shown), *image.region.shape, 1)
    own, hidden = torch.tensor(image.image, device=device), torch.tensor(image.filling, device=device)
    return torch.where(visible, own, hidden)
