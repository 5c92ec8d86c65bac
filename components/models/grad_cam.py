"""GradCAM (Selvaraju et al., ICCV 2017) of a network's trunk, by the package grad-cam."""

import numpy as np
from numpy.typing import NDArray

from components.models.network import Network, to_pixels

SIGNED = False  # the maps are rectified


def grad_cam(network: Network, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Where the logits (B,) of the labels come from: float32 (B, S, S) in [0, 1], bilinear from the trunk's
    cells, each map scaled to its own range; of images (B, S, S, 3), on the network's device.

    Raises ValueError for a network with tokens instead of a map, IndexError for a label that it lacks.
    """
    from pytorch_grad_cam import GradCAM  # type: ignore[import-untyped]
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # type: ignore[import-untyped]

    if network.prefix_tokens is not None:
        raise ValueError("GradCAM needs a convolutional backbone: this one has tokens")
    cam = GradCAM(network, [network.trunk])
    try:
        pixels = to_pixels(images, str(network.mean.device))
        return cam(pixels, [ClassifierOutputTarget(int(label)) for label in labels])
    finally:
        cam.activations_and_grads.release()
        network.zero_grad(set_to_none=True)
