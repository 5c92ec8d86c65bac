"""Training of a classifier on images, with AdamW and a one-cycle schedule."""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.columns import Column, Data, matrix
from components.data.images import DataError, blocks, decode, resized
from components.identity import rng
from components.models.networks.network import Network, to_pixels
from components.models.training.group_objectives import objective_of
from components.models.training.recipe import Recipe

Images = NDArray[np.uint8]
Ints = NDArray[np.int64]
IMAGES_AT_ONCE = 256
FEATURES_AT_ONCE = 65_536


class Inputs(NamedTuple):
    """Labels and groups int64 (n,) of the training images that can be read, labels (m,) of those of
    validation; logits (B, C) of training rows, augmented anew each time, and (m, C) of validation."""

    labels: Ints
    groups: Ints
    val_labels: Ints
    logits: Callable[[Ints], Tensor]
    val_logits: Callable[[], NDArray[np.float32]]


def train_classifier(
    network: Network,
    data: Data,
    recipe: Recipe,
    image_size: int,
    seed: int,
    device: str,
    report: Callable[..., None],
) -> None:
    """Trains `network` in place; reports loss and validation accuracy after each epoch. The last epoch is the
    result, whatever validation says; without validation images there is a warning and no accuracy.

    `trainable: all` holds the images of both splits decoded, 3 image_size^2 bytes each (0.15 MB at 224, so
    0.9 GB for Waterbirds' 4795 + 1199), since each epoch passes them all; `head` reads no image: the columns
    `features` and `mirrored` of `data`, two vectors for each image of training and one of validation.

    Raises FloatingPointError with the step when the loss stops being finite, DataError if there is no image.
    """
    network.to(memory_format=torch.channels_last).to(device)  # faster for convolutions, on CPU too
    network.requires_grad_(recipe.trainable == "all")
    network.head.requires_grad_(True)
    stream = rng(seed, "classifier batches")
    of = _head_inputs if recipe.trainable == "head" else _image_inputs
    inputs = of(network, data, recipe, image_size, stream, device)
    n = len(inputs.labels)
    if n == 0:
        raise DataError("no training image can be read")
    if len(inputs.val_labels) == 0:
        warnings.warn(
            "no validation image can be read: there is no accuracy; the last epoch is the result, as always",
            stacklevel=2,
        )
    objective = objective_of(inputs.labels, inputs.groups, recipe, device)
    parameters = [value for value in network.parameters() if value.requires_grad]
    steps = recipe.epochs * -(-n // recipe.batch_size)
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, max(steps, 2))
    for epoch in range(recipe.epochs):
        network.train(recipe.trainable == "all")
        losses = [
            _step(objective.loss(inputs.logits(rows), rows), optimizer, schedule)
            for rows in _batches(objective.order(stream), recipe.batch_size)
        ]
        report(epoch, loss=float(np.mean(losses)), **_validation(inputs))
    network.eval()


def _validation(inputs: Inputs) -> dict[str, float]:
    if len(inputs.val_labels) == 0:
        return {}
    return {"val_average_accuracy": float((inputs.val_logits().argmax(1) == inputs.val_labels).mean())}


def _step(
    loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR
) -> float:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"loss is {loss.item()} at step {schedule.last_epoch}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    return loss.item()


def _image_inputs(
    network: Network, data: Data, recipe: Recipe, image_size: int, stream: np.random.Generator, device: str
) -> Inputs:
    images, labels, groups = readable(data, "train", image_size)
    val, val_labels, _ = readable(data, "val", image_size)

    def logits(rows: Ints) -> Tensor:
        batch: Tensor = network(augmented(to_pixels(images[rows], device), recipe.hue, stream))
        return batch

    return Inputs(labels, groups, val_labels, logits, lambda: predict(network, val, device))


def _head_inputs(
    network: Network, data: Data, recipe: Recipe, image_size: int, stream: np.random.Generator, device: str
) -> Inputs:
    """For a frozen trunk: of the features that the stages `features` and `mirrored` have."""
    train, val = data.split("train"), data.split("val")
    either = [data["features"], data["mirrored"]]
    read = np.isin(train.ids, either[0].ids) & np.isin(train.ids, either[1].ids)
    val_read = np.isin(val.ids, either[0].ids)
    both = torch.empty(2, int(read.sum()), network.width, device=device)
    for found, column in zip(both, either, strict=True):
        _fill(found, column, train.ids[read])
    val_features = torch.empty(int(val_read.sum()), network.width, device=device)
    _fill(val_features, either[0], val.ids[val_read])

    def logits(rows: Ints) -> Tensor:
        mirrored = torch.from_numpy(stream.integers(2, size=len(rows))).to(device)
        batch: Tensor = network.head(both[mirrored, torch.from_numpy(rows).to(device)])
        return batch

    return Inputs(
        train.labels[read],
        train.groups[read],
        val.labels[val_read],
        logits,
        lambda: network.head(val_features).detach().cpu().numpy(),
    )


def _fill(found: Tensor, column: Column, ids: Ints) -> None:
    """Features (n, F) of these ids, in blocks, so that a column of ImageNet's lies in memory once."""
    row = 0
    for block, table in column.blocks(ids, ["features"], FEATURES_AT_ONCE):
        found[row : row + len(block)] = torch.tensor(matrix(table["features"]))
        row += len(block)


def augmented(pixels: Tensor, hue: float, stream: np.random.Generator) -> Tensor:
    """Images uint8 or float (B, 3, H, W) in 0..255, each mirrored half of the time and its colours turned
    about the grey axis by U(-hue, hue) of a full turn."""
    flip = torch.from_numpy(stream.random(len(pixels)) < 0.5).to(pixels.device)
    pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
    if hue == 0:
        return pixels
    angles = torch.from_numpy(stream.uniform(-hue, hue, len(pixels))).to(pixels.device) * 2 * torch.pi
    return torch.einsum("bij,bjhw->bihw", hue_rotations(angles.float()), pixels.float())


def hue_rotations(angles: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of RGB about the grey axis by angles (B,) in radians (Rodrigues' formula)."""
    axis = torch.full((3,), 3**-0.5, device=angles.device)
    cross = torch.linalg.cross(torch.eye(3, device=angles.device), axis.expand(3, 3)).T
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    eye = torch.eye(3, device=angles.device)
    return cos * eye - sin * cross + (1 - cos) * torch.outer(axis, axis)


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Batches of these rows; a last batch of one joins its neighbour, since batch norm cannot take it."""
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return iter(np.split(order, cuts))


def predict(network: Network, images: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    """Logits (n, C) of images uint8 (n, H, W, 3), in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(to_pixels(images[block], device)).cpu() for block in blocks(len(images), IMAGES_AT_ONCE)
        ]
        none = network.head(torch.zeros(0, network.width, device=device)).cpu()
    return torch.cat([none, *parts]).numpy()


def readable(data: Data, split: str, image_size: int) -> tuple[Images, Ints, Ints]:
    """The split's images as uint8 (n, size, size, 3) with labels (n,) and groups (n,), without those that
    cannot be read. All are in memory: 3 size^2 bytes for each image of the split."""
    part = data.split(split)
    images = np.empty((len(part.ids), image_size, image_size, 3), np.uint8)
    read: list[int] = []
    for position, row in enumerate(data.rows(part.ids)):
        try:
            image = resized(decode(data.index.path(int(row))), image_size)
        except (OSError, ValueError):
            continue  # stages that read this image keep it as a failure row with the reason
        images[len(read)] = image
        read.append(position)
    return images[: len(read)], part.labels[read], part.groups[read]
