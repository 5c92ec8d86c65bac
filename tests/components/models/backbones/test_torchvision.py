import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18, squeezenet1_0
from torchvision.transforms.v2.functional import normalize

from components.images import decode, resized
from components.models.backbone import IMAGENET
from components.models.backbones.torchvision import Torchvision
from components.models.network import to_pixels

WEIGHTS = "weights/squeezenet1_0_imagenet_fp16.safetensors"


def test_real_squeezenet_against_torchvision(test_data):
    weights = test_data(WEIGHTS)
    model = squeezenet1_0()
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    paths = sorted((test_data("imagenet-mini") / "images").iterdir())[:4]
    images = np.stack([resized(decode(path), 224) for path in paths])
    network = Torchvision(architecture="squeezenet1_0", checkpoint=str(weights)).build(2, 224, seed=0).eval()
    with torch.inference_mode():
        pixels = normalize(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, *IMAGENET)
        expected = model.eval().features(pixels)
        found = network.spatial(to_pixels(images, "cpu"))
        features = network.features(to_pixels(images, "cpu"))
    noise = 1e-5 * float(expected.max())
    torch.testing.assert_close(found, expected, atol=noise, rtol=1e-4)
    torch.testing.assert_close(features, expected.mean((2, 3)), atol=noise, rtol=1e-4)
    assert expected.std() > 0.1


def test_resnets_end_before_their_pooling(tmp_path):
    torch.manual_seed(0)
    model = resnet18().eval()
    save_file(model.state_dict(), tmp_path / "resnet18.safetensors")
    checkpoint = str(tmp_path / "resnet18.safetensors")
    network = Torchvision(architecture="resnet18", checkpoint=checkpoint).build(2, 64, seed=0).eval()
    model.fc = torch.nn.Identity()
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network.features(pixels), model(normalize(pixels / 255, *IMAGENET)))


def test_another_architectures_checkpoint_does_not_fit(tmp_path):
    save_file(resnet18().state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(RuntimeError, match="Missing key"):
        Torchvision(architecture="squeezenet1_0", checkpoint=str(tmp_path / "resnet18.safetensors")).build(
            2, 64, 0
        )
