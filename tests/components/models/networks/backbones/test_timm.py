"""Against timm's own models, on photographs."""

import json
import pickle

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models import save_for_hf
from torchvision.transforms.v2.functional import normalize

from components.data.images import decode, resized
from components.models.networks.backbones.timm import Timm
from components.models.networks.network import to_pixels
from components.models.weights.loading import WrongWeights

ODD = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
VIT_TINY = "vit_tiny_patch16_224"


def photographs(test_data, size):
    paths = sorted((test_data("imagenet-mini") / "images").iterdir())[:2]
    return np.stack([resized(decode(path), size) for path in paths])


def normalised(squares, mean, std):
    return normalize(torch.from_numpy(squares).permute(0, 3, 1, 2) / 255, mean, std)


def near(found, expected):
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def model_of(name, **options):
    """With weights that are large enough to show in the logits."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    head = model.get_classifier()
    if isinstance(head, torch.nn.Linear):
        torch.nn.init.normal_(head.weight)
    return model


@pytest.fixture
def published(tmp_path):
    """A folder as timm publishes it, of a model with statistics of its own."""

    def publish(model, **config):
        save_for_hf(model, str(tmp_path), safe_serialization=True)
        content = json.loads((tmp_path / "config.json").read_text())
        content["pretrained_cfg"] |= ODD
        (tmp_path / "config.json").write_text(json.dumps(content | config))
        return str(tmp_path)

    return publish


@pytest.mark.parametrize(
    ("name", "size"),
    [(VIT_TINY, 224), ("test_resnet", 64), ("convnext_atto", 64), ("mobilenetv3_small_050", 64),
     ("test_vit2", 160), ("test_vit3", 160)],
)  # fmt: skip
def test_logits_are_the_models_own(name, size, test_data, published):
    model = model_of(name)
    folder = published(model)
    squares = photographs(test_data, size)
    pixels = to_pixels(squares, "cpu")
    network = Timm(checkpoint=folder).build(None, size, seed=1)
    x = normalised(squares, **ODD)
    with torch.inference_mode():
        logits = network(pixels)
        near(logits, model(x))
        near(network.features(pixels), model.forward_head(model.forward_features(x), pre_logits=True))
        assert torch.equal(network.head(network.features(pixels)), logits)
        other = Timm(checkpoint=folder, architecture=name).build(3, size, seed=1).eval()
        near(other.features(pixels), network.features(pixels))
        assert other(pixels).shape == (2, 3)


@pytest.mark.parametrize(("name", "prefix"), [(VIT_TINY, 1), ("vit_small_patch14_reg4_dinov2", 5)])
def test_patch_tokens_in_their_grid_with_the_class_token(name, prefix, test_data):
    """By hand, from timm's tokens."""
    torch.manual_seed(0)
    options = {"img_size": 56} if "dinov2" in name else {}
    model, size = timm.create_model(name, **options).eval(), 56 if options else 224
    network = Timm(architecture=name).build(None, size, seed=0)
    network.trunk.model.load_state_dict({**network.trunk.model.state_dict(), **without_head(model)})
    squares = photographs(test_data, size)
    data = timm.data.resolve_model_data_config(model)
    with torch.inference_mode():
        tokens = model.forward_features(normalised(squares, data["mean"], data["std"]))
        alone = network.spatial(to_pixels(squares, "cpu"))
        both = network.spatial(to_pixels(squares, "cpu"), class_token=True)
    side = size // model.patch_embed.patch_size[0]
    assert alone.shape == (2, model.embed_dim, side, side)
    for row, column in ((0, 0), (0, 3), (2, 1), (side - 1, side - 1)):
        patch = tokens[:, prefix + side * row + column]
        near(alone[:, :, row, column], patch)
        near(both[:, :, row, column], torch.cat([patch, tokens[:, 0]], dim=1))


def without_head(model):
    return {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}


def test_maps_with_channels_last_are_turned(test_data):
    """A Swin transformer's own order is (B, h, w, D)."""
    network = Timm(architecture="swin_tiny_patch4_window7_224").build(2, 224, seed=0).eval()
    squares = photographs(test_data, 224)
    x = normalised(squares, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        own = network.trunk.model.forward_features(x)
        near(network.spatial(to_pixels(squares, "cpu")), own.permute(0, 3, 1, 2))
    assert own.shape == (2, 7, 7, 768)


def test_a_model_without_a_classifier(test_data):
    network = Timm(architecture="vit_small_patch14_reg4_dinov2").build(None, 56, seed=0)
    pixels = to_pixels(photographs(test_data, 56), "cpu")
    with torch.inference_mode():
        assert torch.equal(network(pixels), network.features(pixels))
    assert network.width == 384


def test_position_embeddings_are_resampled_to_the_image(published):
    model = model_of("test_vit")
    network = Timm(checkpoint=published(model)).build(2, 96, seed=0)
    expected = resample_abs_pos_embed(model.pos_embed, new_size=[6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(network.trunk.model.pos_embed, expected)
    assert network.spatial(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).shape == (1, 64, 6, 6)


def test_a_file_takes_timms_own_configuration(tmp_path, test_data):
    model = model_of("test_vit")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    squares = photographs(test_data, 160)
    backbone = Timm(architecture="test_vit.r160_in1k", checkpoint=str(tmp_path / "weights.safetensors"))
    config = timm.get_pretrained_cfg("test_vit.r160_in1k")
    with torch.inference_mode():
        expected = model(normalised(squares, config.mean, config.std))
        near(backbone.build(None, 160, seed=1)(to_pixels(squares, "cpu")), expected)
    with pytest.raises(ValueError, match="a file does not say its architecture"):
        Timm(checkpoint=str(tmp_path / "weights.safetensors")).build(2, 160, 0)


def test_the_folder_decides_the_architecture(published):
    folder = published(model_of("test_vit", num_classes=7))
    for architecture in (None, "test_vit", "test_vit.r160_in1k"):
        network = Timm(checkpoint=folder, architecture=architecture).build(None, 160, 0)
        assert network.head.out_features == 7
    for architecture in ("test_resnet", "test_vit.other"):
        with pytest.raises(ValueError, match="architecture is test_vit, not"):
            Timm(checkpoint=folder, architecture=architecture).build(2, 160, 0)


class Danger:
    def __reduce__(self):
        return print, ("run",)


def test_weights_that_are_wrong_broken_or_code_are_refused(published, tmp_path):
    folder = published(model_of("test_vit"))
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WrongWeights, match="broken file"):
        Timm(checkpoint=folder).build(2, 160, 0)
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    with pytest.raises(WrongWeights, match="not of this architecture"):
        Timm(checkpoint=folder).build(2, 160, 0)
    weights.unlink()
    with pytest.raises(WrongWeights, match=r"model\.safetensors"):
        Timm(checkpoint=folder).build(2, 160, 0)
    (tmp_path / "code.bin").write_bytes(pickle.dumps({"weight": Danger()}, protocol=2))
    with pytest.raises(WrongWeights, match="refused"):
        Timm(checkpoint=str(tmp_path / "code.bin"), architecture="test_vit").build(2, 160, 0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="Config file not found"):
        Timm(checkpoint=folder).build(2, 160, 0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet5", "no architecture 'resnet5'; closest: .*'resnet50'"),
        ("hf-hub:timm/test_vit.r160_in1k", "no architecture"),  # nothing is fetched
        ("test_vit.other", "Invalid pretrained tag"),
        ("deit_tiny_distilled_patch16_224", "several classifiers"),
        ("volo_d1_224", "is not a trunk, a pooling and a head"),
    ],
)
def test_architectures_that_do_not_fit_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        Timm(architecture=name).build(2, 224, 0)


def test_nothing_said_is_refused_when_planning():
    with pytest.raises(ValueError, match="needs an architecture"):
        Timm()
