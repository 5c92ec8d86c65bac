"""Features of segments: of their crops, or of the image's feature map under their masks."""

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.models.networks.network import Network, to_pixels
from components.pixels.crops import Outside, segment_crops
from components.pixels.frames import Frame, frame_box

Images = Sequence[NDArray[np.uint8]]
Masks = Sequence[NDArray[np.bool_]]
CROPS_AT_ONCE = 256  # bounds the memory, whatever the number of segments


def crop_features(
    network: Network,
    images: Images,
    masks: Masks,
    image_size: int,
    device: str,
    outside: Outside = "image_mean",
) -> tuple[NDArray[np.float32], int]:
    """Features float32 (sum of S, F) of all segments, image after image; and the crops that were passed."""
    pairs = zip(images, masks, strict=True)
    crops = (
        crop for image, segments in pairs for crop in segment_crops(image, segments, image_size, outside)
    )
    parts = [np.zeros((0, network.width), np.float32)]
    with torch.inference_mode():
        while block := list(islice(crops, CROPS_AT_ONCE)):
            parts.append(network.features(to_pixels(np.stack(block), device)).cpu().numpy())
    return np.concatenate(parts), sum(len(segments) for segments in masks)


def pool_features(
    network: Network, squares: Images, masks: Masks, frame: Frame, device: str
) -> tuple[NDArray[np.float32], int]:
    """As `crop_features`, from one pass per image: the architecture's own pooling (`Network.pooled`) of the
    map's mean, weighted by each cell's share of mask. A mask without a pixel in the frame has a mean of 0.

    squares: the images, uint8 (size, size, 3), as `framed` makes them; masks: of the images as they were.
    """
    with torch.inference_mode():
        maps = network.spatial(to_pixels(np.stack(squares), device))
        size = len(squares[0])
        means = [_under(x, segments, size, frame) for x, segments in zip(maps, masks, strict=True)]
        pooled = network.pooled(torch.cat(means))
    return pooled.cpu().numpy(), len(squares)


def _under(features: Tensor, segments: NDArray[np.bool_], size: int, frame: Frame) -> Tensor:
    """Means (S, D) of the map (D, h, w) under the masks (S, H, W)."""
    _, height, width = segments.shape
    left, top, right, bottom = frame_box(height, width, size, frame)
    window = slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))
    cells = torch.zeros(len(segments), *features.shape[1:])
    for cell, segment in zip(cells, segments, strict=True):
        seen = torch.from_numpy(segment[window].astype(np.float32))[None, None]
        cell.copy_(torch.nn.functional.interpolate(seen, cell.shape, mode="area")[0, 0])
    cells = cells.to(features.device)
    totals = cells.sum(dim=(1, 2)).clamp_min(1e-12)
    return torch.einsum("dhw,shw->sd", features, cells) / totals[:, None]
