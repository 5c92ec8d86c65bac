"""What fine-tuning asks of a network: maps, gradients of its inputs, predictions of images.

B images, S pixels a side, g cells a side, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.data.columns import Data, Ids
from components.data.images import blocks
from components.method import Fitted
from components.models.networks.network import Network, load_tensors, to_pixels
from components.models.relevance.relevance import Relevance
from components.pixels.frames import Frame, framed
from components.stage import Tensors
from components.stages.classifier import load_target
from components.studies.guided_fine_tuning.knobs import FineTuningKnobs
from components.studies.guided_fine_tuning.loop import START
from components.studies.starting_network import classifier_of

IMAGES_AT_ONCE = 64


def start_network(method: FineTuningKnobs, data: Data) -> Network:
    """The network before fine-tuning: the classifier stage's, or as its checkpoint says, its own head
    included. In float32, on the GPU if this process was given one."""
    backbone = replace(method.backbone, precision="fp32")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier = classifier_of(data.card, backbone, method.recipe, seed=0)  # the weights are in the tensors
    tensors: dict[str, Tensors] = {} if classifier is None else {"classifier": data.tensors("classifier")}
    return load_target(backbone, classifier, tensors, data.card.image_size, device)


def fitted_network(method: FineTuningKnobs, fitted: Fitted, data: Data, selection: str) -> Network:
    """The network of a selection: START, or one that weights were fitted for."""
    network = start_network(method, data).requires_grad_(False)
    if selection == START:
        return network
    prefix = f"{selection}/"
    weights = {n.removeprefix(prefix): x for n, x in fitted.tensors.items() if n.startswith(prefix)}
    load_tensors(network, weights)
    return network


def twice_differentiable(network: Network, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The network's normalised inputs (B, 3, S, S) of pixels in 0..255, which require a gradient, and logits
    (B, C) whose gradient with respect to them has one itself: fused attention has none."""
    inputs = ((pixels / 255 - network.mean) / network.std).requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        logits: Tensor = network.head(network.pool(network.trunk(inputs)))
    return inputs, logits


def logits_of(networks: Sequence[Network], data: Data, ids: Ids, frame: Frame) -> list[NDArray[np.float32]]:
    """Logits (n, C) of these images by each of the networks, which all read the images once."""
    found: list[list[Tensor]] = [[] for _ in networks]
    for pixels in _pixels(networks[0], data, ids, frame):
        with torch.inference_mode():
            for logits, network in zip(found, networks, strict=True):
                logits.append(network(pixels).cpu())
    none = torch.zeros(0, len(data.card.classes))
    return [torch.cat(logits).numpy() if logits else none.numpy() for logits in found]


def raw_maps(
    network: Network, relevance: Relevance, data: Data, ids: Ids, frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of these images, at least one, the raw relevance (n, g, g) of the class that the network predicts, and
    its logits (n, C)."""
    maps, logits = [], []
    for pixels in _pixels(network, data, ids, frame):
        with torch.inference_mode():
            logits.append(network(pixels))
        maps.append(relevance.maps(network, pixels, logits[-1].argmax(1).clone()).raw.detach().float())
    return torch.cat(maps).cpu().numpy(), torch.cat(logits).cpu().numpy()


def _pixels(network: Network, data: Data, ids: Ids, frame: Frame) -> Iterator[Tensor]:
    """The images as pixels (B, 3, S, S) in 0..255 on the network's device, block after block."""
    size, device = data.card.image_size, str(network.mean.device)
    for block in blocks(len(ids), IMAGES_AT_ONCE):
        images = np.stack([framed(image, size, frame) for image in data.images(ids[block])])
        yield to_pixels(images, device).float()
