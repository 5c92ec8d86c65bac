"""Train the small transformer of the toy birds: `python -m components.toybirds.vit.train`.

What pre-training on ImageNet is to a large transformer: from random weights and the 2,000 birds of an
experiment, a network without convolutions learns the background alone (worst group 0.09). Draws its own birds
(places balanced, seeds that no experiment uses) and teaches what they and their backgrounds are, and where
the parts are; it learns all that decide the class but the beak, which is a few pixels. Writes the weights of
`small_vit`, whose head names the class, and their accuracy on birds of a third data set.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.data.generators.toybirds import CLASSES
from components.identity import rng
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import Network, to_pixels
from components.models.training.training import predict
from components.toybirds.birds import HELD_OUT_DATA_SEED, Birds, draw_birds
from components.toybirds.vit.pretraining import Pretraining

IMAGE_SIZE, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 64, 64, 2e-3, 0.05
SHIFT = 6  # pixels
FOLDER = Path("datasets/toybirds/vit")
WEIGHTS, SCORES = "model.safetensors", "scores.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    birds, _, held_out = draw_birds(8000, 4, 1000)
    start = time.monotonic()
    network = pretrain(birds, arguments.steps, arguments.seed)
    print(f"trained for {time.monotonic() - start:.0f} s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file({name: x.half() for name, x in network.state_dict().items()}, arguments.out / WEIGHTS)
    half = {name: x.float() for name, x in load_file(arguments.out / WEIGHTS).items()}
    network.load_state_dict(half)  # scored as it ships
    record = {
        "seed": arguments.seed,
        "steps": arguments.steps,
        "data_seed": HELD_OUT_DATA_SEED,
        "n": len(held_out),
        "accuracy": accuracy(network, held_out),
    }
    (arguments.out / SCORES).write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def pretrain(birds: Birds, steps: int, seed: int) -> Network:
    """The trained network, in evaluation mode."""
    random = rng(seed, "toybirds_vit", "batches")
    vocabulary = sorted({phrase for shown in birds.shown for phrase in shown.values()})
    phrases = torch.tensor([[p in shown.values() for p in vocabulary] for shown in birds.shown]).float()
    classes, parts = torch.from_numpy(labels_of(birds)), torch.from_numpy(birds.parts)
    pixels = to_pixels(birds.images, "cpu")
    model = _untrained(len(vocabulary), seed)
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.1)
    for step in range(1, steps + 1):
        rows = torch.from_numpy(random.integers(0, len(birds), BATCH_SIZE))
        seen, where = _moved(pixels[rows], parts[rows], random)
        loss = model.loss(seen, where, phrases[rows], classes[rows])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step}  loss {loss.item():.3f}", flush=True)
    return model.network.eval()


def _untrained(n_phrases: int, seed: int) -> Pretraining:
    network = SmallVit().build(len(CLASSES), IMAGE_SIZE, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Pretraining(network, n_phrases)


def _moved(pixels: Tensor, parts: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) and parts (B, S, S), each image mirrored half of the time, all rolled alike."""
    mirrored = torch.from_numpy(random.random(len(pixels)) < 0.5)
    by = random.integers(-SHIFT, SHIFT + 1, 2).tolist()
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    parts = torch.where(mirrored[:, None, None], parts.flip(-1), parts)
    return pixels.roll(by, (-2, -1)), parts.roll(by, (-2, -1))


def labels_of(birds: Birds) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64 (N,), positions in CLASSES."""
    return np.array([CLASSES.index(name) for name in birds.classes])


def accuracy(network: Network, birds: Birds) -> float:
    """The share of birds whose class is named, places balanced."""
    return float((predict(network, birds.images, "cpu").argmax(1) == labels_of(birds)).mean())


if __name__ == "__main__":
    main()
