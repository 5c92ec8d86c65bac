"""Two photographs, and two convolutional classifiers as torchvision has them and as the product has them."""

import csv
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.v2.functional import normalize

from components.data.images import decode
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import Network
from components.models.networks.statistics import IMAGENET
from components.pixels.frames import framed

SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"
SIDE = 96


@dataclass
class Explained:
    """plain, last: torchvision's own model and the layer that gives its last map; network: ours."""

    plain: nn.Module
    last: nn.Module
    network: Network
    images: np.ndarray
    x: Tensor
    labels: np.ndarray

    @property
    def targets(self) -> Tensor:
        return torch.tensor(self.labels)

    def in_float64(self) -> "Explained":
        """The same models, and the same pixels for both. Where a rectifier or a maximum is next to its kink,
        float32's rounding decides which way a gradient goes, and with one such cell all that lies before it
        changes by per cents; float64's is 2**29 times less likely to."""
        plain, last, network = deepcopy((self.plain, self.last, self.network))
        plain, network = plain.double(), network.double()
        pixels = torch.tensor(self.images).permute(0, 3, 1, 2).double()
        return replace(
            self, plain=plain, last=last, network=network, x=(pixels / 255 - network.mean) / network.std
        )


@pytest.fixture(scope="session")
def photographs(test_data):
    """Of a goldfish and of an ostrich: uint8 (2, SIDE, SIDE, 3)."""
    folder = test_data("imagenet-mini")
    with (folder / "labels.csv").open() as file:
        files = {row["class_name"]: row["file"] for row in csv.DictReader(file)}
    paths = [next(folder.rglob(files[name].rpartition("/")[2])) for name in ("goldfish", "ostrich")]
    return np.stack([framed(decode(path), SIDE, "center_crop") for path in paths])


@pytest.fixture(scope="session", params=["squeezenet1_0", "resnet18"])
def explained(request, test_data, photographs, tmp_path_factory):
    """With real weights, or with random ones whose batch norms have seen the photographs."""
    x = normalize(torch.tensor(photographs).permute(0, 3, 1, 2) / 255, *IMAGENET)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = models.get_model(request.param, weights=None)
    if request.param == "squeezenet1_0":
        checkpoint, last = test_data(SQUEEZENET), plain.features
        plain.load_state_dict({name: value.float() for name, value in load_file(checkpoint).items()})
    else:
        checkpoint, last = tmp_path_factory.mktemp("resnet18") / "weights.safetensors", plain.layer4
        with torch.no_grad():
            for _ in range(30):
                plain.train()(x)
        save_file(plain.state_dict(), checkpoint)
    backbone = Torchvision(architecture=request.param, checkpoint=str(checkpoint))
    network = backbone.build(None, SIDE, 0).ready("cpu", torch.float32)
    with torch.no_grad():
        labels = plain.eval()(x).argmax(1).numpy()
    return Explained(plain.requires_grad_(False), last, network, photographs, x, labels)
