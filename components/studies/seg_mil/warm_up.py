"""The warm-up of SEG-MIL-CBM: the backbone learns with the head on the crops of the bags, then it is frozen.

B images, M their valid segments, N bag size, D features.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.columns import Data
from components.data.images import blocks
from components.identity import rng
from components.method import Report
from components.models.networks.network import Network, load_tensors, to_pixels
from components.pixels.bags import WHOLE_IMAGE, Bags
from components.pixels.crops import Outside, segment_crops
from components.pixels.masks import decode
from components.stage import Tensors
from components.stages.classifier import load_network
from components.studies.seg_mil.bag_tensors import BagTensors
from components.studies.seg_mil.head import MilHead
from components.studies.seg_mil.knobs import SegMilKnobs
from components.studies.seg_mil.training import bag_loss
from components.studies.starting_network import trunk_of

IMAGES_AT_ONCE = 32
CROPS_AT_ONCE = 256  # bounds the memory of passes without gradients


def warm_up(
    method: SegMilKnobs, data: Data, head: MilHead, train: BagTensors, seed: int, report: Report
) -> Network:
    """The backbone, frozen, after `warmup_epochs` with the head, which is trained in place: Adam at constant
    rates, `warmup_learning_rate` for the backbone and `learning_rate` for the head
    (docs/methods/seg_mil.md, "Warm-up"). The crops of half of the images, at random in each epoch, are
    mirrored. In float32, on the GPU if this process was given one.

    Raises FloatingPointError with the step when the loss stops being finite.
    """
    network = _untrained(method, data, seed)
    network.requires_grad_(True).head.requires_grad_(False)
    groups = [
        {"params": [p for p in network.parameters() if p.requires_grad], "lr": method.warmup_learning_rate},
        {"params": list(head.to(_device()).parameters()), "lr": method.learning_rate},
    ]
    optimizer = torch.optim.Adam(groups, weight_decay=method.weight_decay)
    stream = rng(seed, "seg_mil_cbm warm-up")
    step = 0
    for epoch in range(method.warmup_epochs):
        network.train()
        head.train()
        losses = []
        for rows in torch.from_numpy(stream.permutation(len(train.labels))).split(method.warmup_batch_size):
            crops = _crops(data, train.bags, rows.numpy(), method.outside, stream)
            features = _in_bags(network.features(to_pixels(crops, _device())), train.valid[rows])
            loss = bag_loss(method, head, train, rows, features, stream)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {step} of the warm-up")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        report(epoch, train_warmup_loss=float(np.mean(losses)))
    head.cpu()
    return network.requires_grad_(False).eval()


def encoded(network: Network, data: Data, bags: BagTensors, outside: Outside = "image_mean") -> BagTensors:
    """The bags with the features that the network, frozen, makes of their crops."""
    features = torch.zeros(*bags.valid.shape, network.width)
    for block in blocks(len(bags.labels), IMAGES_AT_ONCE):
        rows = np.arange(block.start, block.stop)
        crops = _crops(data, bags.bags, rows, outside)
        with torch.inference_mode():
            parts = [
                network.features(to_pixels(crops[some], _device())).cpu()
                for some in blocks(len(crops), CROPS_AT_ONCE)
            ]
        features[block] = _in_bags(torch.cat(parts), bags.valid[block])
    return replace(bags, features=features)


def warmed(method: SegMilKnobs, data: Data, tensors: Tensors) -> Network:
    """The backbone with these tensors, frozen."""
    network = method.backbone.build(len(tensors["head.bias"]), data.card.image_size, seed=0)
    load_tensors(network, tensors)
    return network.ready(_device(), torch.float32).requires_grad_(False)


def _untrained(method: SegMilKnobs, data: Data, seed: int) -> Network:
    """The backbone as the classifier stage, or its checkpoint, leaves it."""
    backbone = replace(method.backbone, precision="fp32")
    classifier = trunk_of(data.card, backbone, method.recipe, seed)
    tensors: dict[str, Tensors] = {} if classifier is None else {"classifier": data.tensors("classifier")}
    return load_network(backbone, classifier, tensors, data.card.image_size, _device())


def _device() -> str:
    """A trial that asks for no GPU is shown none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _crops(
    data: Data,
    bags: Bags,
    rows: NDArray[np.int64],
    outside: Outside,
    mirrored: np.random.Generator | None = None,
) -> NDArray[np.uint8]:
    """The crops of these rows' valid segments, row after row: uint8 (M, size, size, 3)."""
    ids = bags.ids[rows]
    table = data["segments"].read(ids, ["height", "width", "counts"])
    parts = []
    for position, (row, image) in enumerate(zip(rows, data.images(ids), strict=True)):
        counts = table["counts"][position].as_py()
        chosen = bags.segments[row][bags.valid[row]]
        if (chosen == WHOLE_IMAGE).all():
            segments = np.ones((1, *image.shape[:2]), bool)
        else:
            segments = decode([counts[i] for i in chosen], *image.shape[:2])
        crops = segment_crops(image, segments, data.card.image_size, outside)
        parts.append(crops[:, :, ::-1] if mirrored is not None and mirrored.random() < 0.5 else crops)
    return np.concatenate(parts)


def _in_bags(features: Tensor, valid: Tensor) -> Tensor:
    """Features (M, D) at their places in the bags (B, N, D), zero elsewhere."""
    bags = features.new_zeros(*valid.shape, features.shape[1])
    bags[valid.to(features.device)] = features
    return bags
