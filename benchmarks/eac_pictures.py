"""Photographs and real networks whose masks have known values: of few masks every coalition is passed through
the network once; of many the truth is sampled, twice."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.eac_timing import timed
from components import shapley
from components.shapley import Coalitions, Floats, Game, Value
from components.surrogate import Surrogate

if TYPE_CHECKING:
    from components.models.network import Network
    from components.models.surrogate import Head

PHOTOGRAPHS = (10, 33)  # of imagenet-mini, by name
SIDE = 128  # of SqueezeNet's pictures
FEW, MANY = 13, 34  # of its masks: with 13, 8,192 forwards each are all
TRUTH = 8192  # coalitions of each sampled truth
TILES, TILE = 4, 8  # the masks of the CIFAR picture: 16 squares of 8 pixels; 65,536 forwards
CIFAR = "cifar10-mini/test/cat/0475.jpg"
VALUES: tuple[Value, ...] = ("banzhaf", "shapley")
Truths = tuple[Floats, Floats]


@dataclass(frozen=True)
class Picture:
    """game: the probability of the class `label` by coalition of n masks; whole: that of the whole picture;
    truths: two estimates of each value whose errors are independent, or the exact one twice; head, training:
    of its surrogate."""

    n: int
    game: Game
    whole: float
    label: int
    truths: dict[Value, Truths]
    head: "Head"
    training: Surrogate

    @cached_property
    def ends(self) -> Floats:
        """The worth of nobody and of all, (2,)."""
        return self.game(np.array([[False] * self.n, [True] * self.n]))


def squeezenet(data: Path, players: int) -> Iterator[Picture]:
    """Its features are its logits, on which EAC's SGD underfits: the surrogate is trained by Adam."""
    import torch

    from components.framed_segments import kept_masks
    from components.frames import framed
    from components.models.backbones.torchvision import Torchvision
    from components.models.segmenters.slic import Slic
    from components.models.surrogate import Head
    from components.stage import ImageRecord

    weights = str(data / "weights" / "squeezenet1_0_imagenet_fp16.safetensors")
    network = Torchvision(architecture="squeezenet1_0", checkpoint=weights).build(None, SIDE, seed=0)
    network.ready("cpu", torch.float32)
    head, training = Head(None, torch.zeros(1000)), Surrogate(optimiser="adam", learning_rate=0.01)
    with tarfile.open(data / "imagenet-mini.tar") as file:
        names = sorted(name for name in file.getnames() if "/images/" in name)
        images = [framed(_read(file, names[place]), SIDE, "center_crop") for place in PHOTOGRAPHS]
    for image in images:
        record = ImageRecord(0, None)  # type: ignore[arg-type]
        cuts = (Slic(n_segments=k, compactness=30).segment(image, record) for k in range(9, 100))
        masks = next(masks for masks in cuts if len(masks) >= players)
        yield _picture(network, image, masks[kept_masks(masks, 0, players)], head, training)


def resnet20(data: Path) -> Iterator[Picture]:
    """A last layer as EAC's paper has it, and its training."""
    from benchmarks import eac_resnet20
    from components.models.batch_norm_folding import folded
    from components.models.surrogate import Head

    network = eac_resnet20.resnet20(data / "weights" / "resnet20_cifar10.safetensors")
    with tarfile.open(data / "cifar10-mini.tar") as file:
        image = _read(file, CIFAR)
    row = np.arange(TILES * TILE) // TILE
    masks = (TILES * row[:, None] + row) == np.arange(TILES**2)[:, None, None]
    head = Head(network.head.weight.detach(), network.head.bias.detach())
    yield _picture(folded(network, TILES * TILE), image, masks, head, Surrogate())


def _read(file: tarfile.TarFile, name: str) -> NDArray[np.uint8]:
    from PIL import Image

    member = file.extractfile(name)
    assert member is not None
    return np.array(Image.open(io.BytesIO(member.read())).convert("RGB"))


def _picture(
    network: "Network",
    image: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    head: "Head",
    training: Surrogate,
) -> Picture:
    from components.models.masked_images import MaskedImage, probabilities, regions, shown_regions

    n, (region, members) = len(masks), regions(masks)

    def probability(shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        picture = MaskedImage(image, np.zeros_like(image), region, shown)
        return next(probabilities(network, [picture], "cpu"))

    first = probability(np.ones((1, len(members)), bool))[0]
    label = int(first.argmax())
    known: dict[bytes, float] = {}  # by coalition: ways with one seed draw the same ones

    def worth(bits: Coalitions) -> Floats:
        keys = [row.tobytes() for row in np.packbits(bits, axis=1)]
        new = list({key: row for row, key in enumerate(keys) if key not in known}.values())
        if new:
            found = probability(shown_regions(bits[new], members))[:, label]
            known.update(zip((keys[row] for row in new), found.tolist(), strict=True))
        return np.array([known[key] for key in keys])

    game = Game(worth)
    seconds, truths = timed(lambda: {value: _truths(game, n, value) for value in VALUES})
    print(
        f"  {n} masks: {len(known)} forwards, {1e3 * seconds / len(known):.2f} ms each; class {label} of"
        f" probability {first[label]:.2f}, sd over coalitions {np.std(list(known.values())):.2f}",
        flush=True,
    )
    return Picture(n, game, float(first[label]), label, truths, head, training)


def _truths(game: Game, n: int, value: Value) -> Truths:
    if n <= shapley.MAX_PLAYERS:
        exact = shapley.exact(game, n, value)
        return exact, exact
    first, second = (
        shapley.kernel(game, n, value, TRUTH, np.random.default_rng([99, half])) for half in range(2)
    )
    return first, second
