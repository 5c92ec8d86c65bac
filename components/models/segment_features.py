"""Features of segments: of their crops, or of the image's feature map under their masks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from components.crops import segment_crops
from components.images import blocks, resized
from components.models.network import Network, to_pixels

Images = Sequence[NDArray[np.uint8]]
Masks = Sequence[NDArray[np.bool_]]
CROPS_AT_ONCE = 256  # bounds the memory of one forward pass, whatever the number of segments


def crop_features(
    network: Network, images: Images, masks: Masks, image_size: int, device: str
) -> tuple[NDArray[np.float32], int]:
    """Features float32 (sum of S, D) of all segments, image after image; and the crops that were passed."""
    pairs = zip(images, masks, strict=True)
    crops = np.concatenate([segment_crops(image, segments, image_size) for image, segments in pairs])
    with torch.inference_mode():
        parts = [
            network.features(to_pixels(crops[block], device)).cpu().numpy()
            for block in blocks(len(crops), CROPS_AT_ONCE)
        ]
    return np.concatenate(parts) if parts else _no_features(network), len(crops)


def pool_features(
    network: Network, images: Images, masks: Masks, image_size: int, device: str
) -> tuple[NDArray[np.float32], int]:
    """As `crop_features`, from one pass per image: the map's mean, weighted by each cell's share of mask."""
    squares = np.stack([resized(image, image_size) for image in images])
    with torch.inference_mode():
        maps = network.spatial(to_pixels(squares, device)).cpu()
    pooled = [_pool(features, segments) for features, segments in zip(maps, masks, strict=True)]
    return np.concatenate(pooled) if pooled else _no_features(network), len(images)


def _pool(features: torch.Tensor, segments: NDArray[np.bool_]) -> NDArray[np.float32]:
    weights = torch.from_numpy(segments).float()[None]
    cells = torch.nn.functional.interpolate(weights, features.shape[1:], mode="area")[0]
    totals = cells.sum(dim=(1, 2)).clamp_min(1e-12)
    return (torch.einsum("dhw,shw->sd", features, cells) / totals[:, None]).numpy()


def _no_features(network: Network) -> NDArray[np.float32]:
    return np.zeros((0, network.head.in_features), np.float32)
