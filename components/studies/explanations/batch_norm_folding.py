"""Batch norms folded into the convolutions before them, for networks that only look at images."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from components.models.networks.network import Network

TOLERANCE = 1e-4  # of the largest logit


def folded(network: Network, image_size: int) -> Network:
    """A network in evaluation mode and float32 that gives the same logits, with fewer passes over memory:
    each batch norm whose input is a convolution's output becomes part of it. Itself where there is none, or
    where a network of another form would give other logits (a convolution whose output is used twice).
    """
    probe = torch.linspace(0, 255, 3 * image_size**2, device=network.mean.device)
    probe = probe.view(1, 3, image_size, image_size)
    found = copy.deepcopy(network)
    with torch.no_grad():
        pairs = _pairs(found, probe)
        for convolution, norm in pairs:
            fused = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = fused.weight, fused.bias
            norm.forward = _unchanged  # type: ignore[assignment, method-assign]
        expected = network(probe)
        gap = (found(probe) - expected).abs().max()
    return found if pairs and gap <= TOLERANCE * expected.abs().max() else network


def _unchanged(x: Tensor) -> Tensor:
    return x


def _pairs(network: Network, probe: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the batch norms that took their outputs in a pass."""
    by_output: dict[int, tuple[Tensor, nn.Conv2d]] = {}
    pairs = []

    def see(module: nn.Module, given: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            by_output[id(output)] = output, module  # kept alive, so that no other tensor gets its id
        elif isinstance(module, nn.BatchNorm2d) and id(given[0]) in by_output:
            pairs.append((by_output[id(given[0])][1], module))

    hooks = [
        layer.register_forward_hook(see)
        for layer in network.modules()
        if type(layer) in (nn.Conv2d, nn.BatchNorm2d)
    ]
    network(probe)
    for hook in hooks:
        hook.remove()
    return pairs
