"""Photographs whose masks have exact values: every coalition is passed through a real network once."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.explanations.timing import timed
from components.studies.explanations import shapley
from components.studies.explanations.shapley import Floats, Game
from components.studies.explanations.surrogate import Surrogate

if TYPE_CHECKING:
    from components.models.networks.network import Network
    from components.studies.explanations.surrogate_network import Head

PHOTOGRAPHS = (10, 33)  # of imagenet-mini, by name
SIDE, PLAYERS = 128, 13  # of SqueezeNet's pictures: 8,192 forwards each
CIFAR_SIDE = 32
CIFAR = "cifar10-mini/test/cat/0475.jpg"


@dataclass(frozen=True)
class Picture:
    """worth (2^n,): the probability of the class `label` by coalition; whole: that of the whole picture;
    head, training: of its surrogate."""

    worth: Floats
    whole: float
    label: int
    head: "Head"
    training: Surrogate

    @property
    def n(self) -> int:
        return len(self.worth).bit_length() - 1

    def game(self) -> Game:
        return Game(lambda bits: self.worth[bits @ (1 << np.arange(self.n))])


def squeezenet(data: Path) -> Iterator[Picture]:
    """Its features are its logits, on which EAC's SGD underfits: the surrogate is trained by Adam."""
    import torch

    from components.models.networks.backbones.torchvision import Torchvision
    from components.models.segmentation.segmenters.slic import Slic
    from components.pixels.framed_segments import kept_masks
    from components.pixels.frames import framed
    from components.stage import ImageRecord
    from components.studies.explanations.surrogate_network import Head

    weights = str(data / "weights" / "squeezenet1_0_imagenet_fp16.safetensors")
    network = Torchvision(architecture="squeezenet1_0", checkpoint=weights).build(None, SIDE, seed=0)
    network.ready("cpu", torch.float32)
    head, training = Head(None, torch.zeros(1000)), Surrogate(optimiser="adam", learning_rate=0.01)
    with tarfile.open(data / "imagenet-mini.tar") as file:
        names = sorted(name for name in file.getnames() if "/images/" in name)
        images = [framed(_read(file, names[place]), SIDE, "center_crop") for place in PHOTOGRAPHS]
    for image in images:
        record = ImageRecord(0, None)  # type: ignore[arg-type]
        cuts = (Slic(n_segments=k, compactness=30).segment(image, record) for k in range(9, 40))
        masks = next(masks for masks in cuts if len(masks) >= PLAYERS)
        yield _enumerated(network, image, masks[kept_masks(masks, 0, PLAYERS)], head, training)


def resnet20(data: Path, rows: int, columns: int) -> Iterator[Picture]:
    """A last layer as EAC's paper has it, and its training. The masks are so many rectangles."""
    from benchmarks.explanations import resnet20
    from components.studies.explanations.batch_norm_folding import folded
    from components.studies.explanations.surrogate_network import Head

    network = resnet20.resnet20(data / "weights" / "resnet20_cifar10.safetensors")
    with tarfile.open(data / "cifar10-mini.tar") as file:
        image = _read(file, CIFAR)
    pixel = np.arange(CIFAR_SIDE)
    tile = columns * (pixel * rows // CIFAR_SIDE)[:, None] + pixel * columns // CIFAR_SIDE
    masks = tile == np.arange(rows * columns)[:, None, None]
    head = Head(network.head.weight.detach(), network.head.bias.detach())
    yield _enumerated(folded(network, CIFAR_SIDE), image, masks, head, Surrogate())


def _read(file: tarfile.TarFile, name: str) -> NDArray[np.uint8]:
    from PIL import Image

    member = file.extractfile(name)
    assert member is not None
    return np.array(Image.open(io.BytesIO(member.read())).convert("RGB"))


def _enumerated(
    network: "Network",
    image: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    head: "Head",
    training: Surrogate,
) -> Picture:
    from components.studies.explanations.masked_images import (
        MaskedImage,
        probabilities,
        regions,
        shown_regions,
    )

    region, members = regions(masks)
    every = shown_regions(shapley.every_coalition(len(masks)), members)
    shown = np.concatenate([np.ones((1, len(members)), bool), every])
    seconds, found = timed(
        lambda: next(probabilities(network, [MaskedImage(image, np.zeros_like(image), region, shown)], "cpu"))
    )
    label = int(found[0].argmax())
    worth = found[1:, label].astype(np.float64)
    print(
        f"  {len(masks)} masks: {len(shown)} forwards, {1e3 * seconds / len(shown):.2f} ms each; class"
        f" {label} of probability {found[0, label]:.2f}, sd over coalitions {worth.std():.2f}",
        flush=True,
    )
    return Picture(worth, float(found[0, label]), label, head, training)
