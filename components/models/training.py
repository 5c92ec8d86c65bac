"""Training of a classifier on images, with AdamW and a one-cycle schedule."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data import Data
from components.identity import rng
from components.images import DataError, blocks, decode, resized
from components.models.group_objectives import objective_of
from components.models.network import Network, to_pixels
from components.recipe import Recipe

Images = NDArray[np.uint8]
LogitsOf = Callable[[NDArray[np.int64]], Tensor]  # of these rows of the training split
AllLogits = Callable[[], NDArray[np.float32]]
IMAGES_AT_ONCE = 256


def train_classifier(
    network: Network,
    data: Data,
    recipe: Recipe,
    image_size: int,
    seed: int,
    device: str,
    report: Callable[..., None],
) -> None:
    """Trains `network` in place; reports loss and validation accuracy after each epoch.

    Raises FloatingPointError with the step when the loss stops being finite, DataError if there is no image.
    """
    images, labels, groups = readable(data, "train", image_size)
    if len(labels) == 0:
        raise DataError("no training image can be read")
    network.to(memory_format=torch.channels_last).to(device)  # faster for convolutions, on CPU too
    network.requires_grad_(recipe.trainable == "all")
    network.head.requires_grad_(True)
    stream = rng(seed, "classifier batches")
    inputs = _head_inputs if recipe.trainable == "head" else _image_inputs
    val_images, val_labels, _ = readable(data, "val", image_size)
    logits, val_logits = inputs(network, images, val_images, recipe, stream, device)
    objective = objective_of(labels, groups, recipe, device)
    parameters = [value for value in network.parameters() if value.requires_grad]
    steps = recipe.epochs * -(-len(labels) // recipe.batch_size)
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, max(steps, 2))
    for epoch in range(recipe.epochs):
        network.train(recipe.trainable == "all")
        losses = [
            _step(objective.loss(logits(rows), rows), optimizer, schedule)
            for rows in _batches(objective.order(stream), recipe.batch_size)
        ]
        accuracy = float((val_logits().argmax(1) == val_labels).mean())
        report(epoch, loss=float(np.mean(losses)), val_average_accuracy=accuracy)
    network.eval()


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
    network: Network, images: Images, val: Images, recipe: Recipe, stream: np.random.Generator, device: str
) -> tuple[LogitsOf, AllLogits]:
    """Logits of training rows, augmented anew each time, and of all validation images."""

    def logits(rows: NDArray[np.int64]) -> Tensor:
        batch: Tensor = network(augmented(to_pixels(images[rows], device), recipe.hue, stream))
        return batch

    return logits, lambda: predict(network, val, device)


def _head_inputs(
    network: Network, images: Images, val: Images, recipe: Recipe, stream: np.random.Generator, device: str
) -> tuple[LogitsOf, AllLogits]:
    """The same for a frozen trunk, which sees every image twice, as it is and mirrored, and never again."""
    network.eval()
    both = torch.stack([_features(network, images, device), _features(network, images[:, :, ::-1], device)])
    val_features = _features(network, val, device)

    def logits(rows: NDArray[np.int64]) -> Tensor:
        mirrored = torch.from_numpy(stream.integers(2, size=len(rows))).to(device)
        batch: Tensor = network.head(both[mirrored, torch.from_numpy(rows).to(device)])
        return batch

    return logits, lambda: network.head(val_features).detach().cpu().numpy()


def _features(network: Network, images: Images, device: str) -> Tensor:
    with torch.no_grad():
        parts = [
            network.features(to_pixels(np.ascontiguousarray(images[block]), device))
            for block in blocks(len(images), IMAGES_AT_ONCE)
        ]
    return torch.cat(parts) if parts else torch.zeros(0, network.width, device=device)


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


def readable(
    data: Data, split: str, image_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The split's images as uint8 (n, size, size, 3) with labels (n,) and groups (n,), without those that
    cannot be read."""
    part = data.split(split)
    rows = data.rows(part.ids)
    images = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    good = np.zeros(len(rows), dtype=bool)
    for position, row in enumerate(rows):
        try:
            images[position] = resized(decode(data.index.path(int(row))), image_size)
            good[position] = True
        except (OSError, ValueError):
            continue  # stages that read this image keep it as a failure row with the reason
    return images[good], part.labels[good], part.groups[good]
