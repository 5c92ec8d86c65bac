"""Against torchvision's own models, on photographs."""

import csv
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity
from torchvision.models import densenet121, get_model, resnet18, squeezenet1_0
from torchvision.transforms.v2 import functional as transforms

from components.data.images import decode, resized
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import to_pixels
from components.models.networks.statistics import IMAGENET
from components.models.weights.loading import WrongWeights

SQUEEZENET = "weights/squeezenet1_0_imagenet_fp16.safetensors"


def photographs(test_data, n, size):
    paths = sorted((test_data("imagenet-mini") / "images").iterdir())[:n]
    return np.stack([resized(decode(path), size) for path in paths])


def normalised(squares):
    return transforms.normalize(torch.from_numpy(squares).permute(0, 3, 1, 2) / 255, *IMAGENET)


def near(found, expected):
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


@pytest.fixture
def squeezenet(test_data):
    weights = test_data(SQUEEZENET)
    model = squeezenet1_0()
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return model.eval(), Torchvision(architecture="squeezenet1_0", checkpoint=str(weights))


def test_real_squeezenet_with_its_own_head(squeezenet, test_data):
    model, backbone = squeezenet
    squares = photographs(test_data, 4, 224)
    network = backbone.build(None, 224, seed=0)
    with torch.inference_mode():
        near(network(to_pixels(squares, "cpu")), model(normalised(squares)))
        near(network.spatial(to_pixels(squares, "cpu")), model.features(normalised(squares)))
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


def test_real_squeezenet_with_a_new_head(squeezenet, test_data):
    model, backbone = squeezenet
    squares = photographs(test_data, 4, 224)
    network = backbone.build(2, 224, seed=0).eval()
    with torch.inference_mode():
        near(network.features(to_pixels(squares, "cpu")), model.features(normalised(squares)).mean((2, 3)))


def test_real_squeezenet_knows_photographs(squeezenet, test_data):
    """With the usual transform for evaluation: 72 of all 100 photographs by torchvision itself."""
    model, backbone = squeezenet
    folder = test_data("imagenet-mini")
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::2]
    images = [torch.tensor(decode(folder / row["file"])).permute(2, 0, 1) for row in rows]
    crops = torch.stack(
        [transforms.center_crop(transforms.resize(x, [256], antialias=True), [224]) for x in images]
    )
    labels = torch.tensor([int(row["class_index"]) for row in rows])
    with torch.inference_mode():
        expected = model(transforms.normalize(crops / 255, *IMAGENET))
        exact = backbone.build(None, 224, 0)(crops)
        rough = backbone.build(None, 224, 0).ready("cpu", torch.bfloat16)(crops[:10])
    near(exact, expected)
    assert (exact.argmax(1) == labels).float().mean() > 0.6
    assert cosine_similarity(exact[:10], rough).min() > 0.999


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 96), ("densenet121", 64), ("mobilenet_v3_small", 64), ("alexnet", 64), ("vit_b_16", 32),
     ("swin_t", 64), ("convnext_tiny", 64), ("shufflenet_v2_x0_5", 64)],
)  # fmt: skip
def test_logits_are_the_models_own(name, size, test_data, tmp_path):
    options = {"image_size": size} if name == "vit_b_16" else {}
    torch.manual_seed(0)
    model = get_model(name, weights=None, **options).eval()
    for parameter in model.parameters():  # a transformer's head is zero at first, and scales of norms are 1
        if parameter.ndim < 2 or not parameter.any():
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    squares = photographs(test_data, 2, size)
    backbone = Torchvision(architecture=name, checkpoint=str(tmp_path / "model.safetensors"))
    network = backbone.build(None, size, seed=1)
    pixels = to_pixels(squares, "cpu")
    with torch.inference_mode():
        logits = network(pixels)
        near(logits, model(normalised(squares)))
        assert torch.equal(network.head(network.features(pixels)), logits)
    assert isinstance(network.head, torch.nn.Linear)
    near(backbone.build(3, size, seed=1).eval().features(pixels).detach(), network.features(pixels).detach())


def test_tokens_of_a_transformer(test_data):
    """Against the tokens that a hook sees."""
    seen = {}
    model = get_model("vit_b_16", weights=None, image_size=48).eval()
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    backbone = Torchvision(architecture="vit_b_16")
    network = backbone.build(None, 48, seed=0)
    network.trunk.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("heads.")})
    squares = photographs(test_data, 2, 48)
    with torch.inference_mode():
        model(normalised(squares))
        both = network.spatial(to_pixels(squares, "cpu"), class_token=True)
        features = network.features(to_pixels(squares, "cpu"))
    for row, column in ((0, 0), (1, 2), (2, 1)):
        token = seen["tokens"][:, 1 + 3 * row + column]
        near(both[:, :, row, column], torch.cat([token, seen["tokens"][:, 0]], dim=1))
    near(features, seen["tokens"][:, 0])


def test_densenets_published_names(tmp_path):
    """As in the published file: `norm.1` for `norm1`, and no `num_batches_tracked`."""
    torch.manual_seed(0)
    model = densenet121().eval()
    state = {
        re.sub(r"(norm|conv|relu)([12])\.", r"\1.\2.", name) if "denselayer" in name else name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "densenet121.pth")
    backbone = Torchvision(architecture="densenet121", checkpoint=str(tmp_path / "densenet121.pth"))
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(transforms.normalize(pixels / 255, *IMAGENET))
        near(backbone.build(None, 64, seed=1)(pixels), expected)


class Danger:
    def __reduce__(self):
        return print, ("run",)


def test_weights_that_are_wrong_broken_or_code_are_refused(tmp_path):
    def build(name):
        Torchvision(architecture="squeezenet1_0", checkpoint=str(tmp_path / name)).build(2, 64, 0)

    save_file(resnet18().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WrongWeights, match="not of this architecture"):
        build("other.safetensors")
    save_file(squeezenet1_0(num_classes=5).state_dict(), tmp_path / "classes.safetensors")
    with pytest.raises(WrongWeights, match="2 tensors of another shape"):
        build("classes.safetensors")
    content = (tmp_path / "other.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(WrongWeights, match="broken file"):
        build("half.safetensors")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weight": Danger()}, protocol=2))
    with pytest.raises(WrongWeights, match="refused"):
        build("code.pth")
    torch.save({"weight": Danger()}, tmp_path / "zip.pth")
    with pytest.raises(WrongWeights, match="refused"):
        build("zip.pth")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet5", "no classifier 'resnet5'; closest: .*resnet50"),
        ("fasterrcnn_resnet50_fpn", "no classifier"),  # would fetch weights of its backbone
        ("maxvit_t", "maxvit_t at 64 pixels is not a trunk, a pooling and a head"),
        ("alexnet", "alexnet at 16 pixels is not"),  # where its map would be empty
    ],
)
def test_architectures_that_do_not_fit_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        Torchvision(architecture=name).build(2, 16 if name == "alexnet" else 64, 0)
