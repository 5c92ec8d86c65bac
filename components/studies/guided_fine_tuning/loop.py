"""Fine-tuning of a trained network on few images, guided by masks.

It is described in docs/methods/guided_fine_tuning.md, "Training".

B images, S pixels a side, C classes. Everything is computed in float32 and, as the maps are, in evaluation
mode: without dropout.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.images import DataError, blocks
from components.identity import rng
from components.method import LAST, Report
from components.models.networks.network import Network, dump_tensors, load_tensors, to_pixels
from components.studies.guided_fine_tuning.knobs import FineTuningKnobs
from components.studies.guided_fine_tuning.losses import classification
from components.studies.guided_fine_tuning.training_masks import GuidedImages, cropped

START = "start"  # selection: the weights before fine-tuning
BEST = "val_loss"  # selection: those of the epoch with the lowest loss on held-out images
DECAY, DECAY_EPOCHS = 0.85, 2  # of the learning rate
IMAGES_AT_ONCE = 64

Weights = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class FineTunedWeights:
    """weights: by selection, LAST and BEST; disagreement: by selection, START too, the share of training
    images, not augmented, whose predicted class is not their label; best_epoch: counted from 0."""

    weights: dict[str, Weights]
    disagreement: dict[str, float]
    best_epoch: int


class _Losses(NamedTuple):
    """Means over a batch, in the graph; disagreement: share of images whose prediction is not the label."""

    total: Tensor
    guidance: Tensor
    classification: Tensor
    disagreement: Tensor


class _Batch(NamedTuple):
    """pixels float32 (B, 3, S, S) in 0..255, masks float32 (B, S, S), see `losses`,
    labels int64 (B,)."""

    pixels: Tensor
    masks: Tensor
    labels: Tensor


def fine_tune(
    method: FineTuningKnobs,
    network: Network,
    train: GuidedImages,
    held_out: GuidedImages,
    image_size: int,
    seed: int,
    report: Report,
) -> FineTunedWeights:
    """Trains the network in place, all of it: AdamW, the learning rate times 0.85 every 2 epochs. The loss is
    the method's guidance and lambda_cls times its term for the class; crops and mirroring are drawn anew for
    each image in each epoch.

    Raises FloatingPointError with the step when the loss of a batch or of the held-out images stops being
    finite; DataError without an image to train on, or to select weights by.
    """
    for images, purpose in ((train, "train on"), (held_out, "select weights by")):
        if len(images.ids) == 0:
            dropped = f"{images.masks_empty} masks are empty, {images.masks_too_large} too large"
            raise DataError(f"no image to {purpose}: {dropped}")
    start = deepcopy(network).requires_grad_(False)
    network.eval().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        network.parameters(), method.learning_rate, weight_decay=method.weight_decay
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, DECAY_EPOCHS, DECAY)
    stream = rng(seed, "fine-tuning batches")
    lowest, best_epoch, best, step = float("inf"), 0, dump_tensors(network), 0
    for epoch in range(method.epochs):
        sums = np.zeros(len(_Losses._fields))
        for rows in _batches(stream.permutation(len(train.ids)), method.batch_size):
            losses = _losses(method, network, start, _batch(train, rows, image_size, network, stream))
            if not torch.isfinite(losses.total):
                raise FloatingPointError(f"loss is {losses.total.item()} at step {step}")
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
            sums += len(rows) * np.array([value.item() for value in losses])
            step += 1
        schedule.step()
        loss = _mean_loss(method, network, start, held_out, image_size)
        if not np.isfinite(loss):  # the last step's gradients were no numbers, though its loss was one
            raise FloatingPointError(f"held-out loss is {loss} after step {step - 1}")
        if loss < lowest:
            lowest, best_epoch, best = loss, epoch, dump_tensors(network)
        names = ("loss", "guidance_loss", "classification_loss", "label_disagreement")
        means = zip(names, sums / len(train.ids), strict=True)
        report(epoch, held_out_loss=loss, **{f"train_{name}": float(mean) for name, mean in means})
    networks = {START: start, LAST: network, BEST: with_weights(start, best)}
    disagreement = {name: _disagreement(one, train, image_size) for name, one in networks.items()}
    return FineTunedWeights({LAST: dump_tensors(network), BEST: best}, disagreement, best_epoch)


def with_weights(network: Network, weights: Weights) -> Network:
    """A copy of the network with these weights, which take no gradients."""
    other = deepcopy(network)
    load_tensors(other, weights)
    return other.requires_grad_(False).eval()


def _losses(method: FineTuningKnobs, network: Network, start: Network, batch: _Batch) -> _Losses:
    guidance, logits = method.guidance(network, batch.pixels, batch.masks, batch.labels)
    original = None
    if method.classification == "kl_to_original":
        with torch.no_grad():
            original = start(batch.pixels)
    term = classification(logits, batch.labels, method.classification, method.temperature, original)
    wrong = (logits.argmax(1) != batch.labels).float().mean()
    return _Losses(guidance + method.lambda_cls * term, guidance, term, wrong)


def _batch(
    images: GuidedImages,
    rows: NDArray[np.int64],
    image_size: int,
    network: Network,
    stream: np.random.Generator | None = None,
) -> _Batch:
    """These rows on the network's device, augmented if there is a stream."""
    device = str(network.mean.device)
    pixels, masks = cropped(images, rows, image_size, stream)
    labels = torch.from_numpy(images.labels[rows]).to(device)
    return _Batch(to_pixels(pixels, device).float(), torch.from_numpy(masks).float().to(device), labels)


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [order[block] for block in blocks(len(order), size)]


def _mean_loss(
    method: FineTuningKnobs, network: Network, start: Network, images: GuidedImages, image_size: int
) -> float:
    """The total loss on images that are not augmented."""
    total = 0.0
    for rows in _batches(np.arange(len(images.ids)), method.batch_size):
        total += (
            len(rows)
            * _losses(method, network, start, _batch(images, rows, image_size, network)).total.item()
        )
    return total / len(images.ids)


def _disagreement(network: Network, images: GuidedImages, image_size: int) -> float:
    wrong = 0
    for rows in _batches(np.arange(len(images.ids)), IMAGES_AT_ONCE):
        batch = _batch(images, rows, image_size, network)
        with torch.inference_mode():
            wrong += int((network(batch.pixels).argmax(1) != batch.labels).sum())
    return wrong / len(images.ids)
