"""What holds of every backbone, whatever files there are."""

import numpy as np
import pytest
import torch

from components.models.networks.backbone import Backbone
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.network import dump_tensors, load_tensors, to_pixels
from grid.names import component_class, names
from tests.half_precision import require_attention

SIDE, CLASSES = 64, 3
KNOBS = {  # small architectures where the default is large, or where there is none
    "torchvision": [{"architecture": name} for name in ("squeezenet1_0", "resnet18")],
    "timm": [{"architecture": name} for name in ("test_vit", "test_convnext", "test_efficientnet")],
    "transformers": [{"architecture": "vit", "depth": 1}],
}
CASES = [(name, knobs) for name in names(Backbone.FOLDER) for knobs in KNOBS.get(name, [{}])]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


def label(case):
    return "-".join([case[0], *map(str, case[1].values())])


@pytest.fixture(scope="module", params=CASES, ids=label)
def backbone(request):
    name, knobs = request.param
    return component_class(Backbone.FOLDER, name)(**knobs)


@pytest.fixture(scope="module")
def network(backbone):
    return backbone.build(CLASSES, SIDE, seed=1).eval()


@pytest.fixture
def pixels():
    return to_pixels(IMAGES, "cpu")


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_building_depends_on_the_seed_alone(backbone, network):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again, other = (backbone.build(CLASSES, SIDE, seed=seed) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(dump_tensors(again), dump_tensors(network))
    assert not equal(dump_tensors(other), dump_tensors(network))


def test_map_features_and_logits_belong_together(network, pixels):
    with torch.inference_mode():
        spatial, features, logits = network.spatial(pixels), network.features(pixels), network(pixels)
        everywhere = network.pooled(spatial.mean(dim=(2, 3)))
    assert spatial.ndim == 4
    assert spatial.shape[2] == spatial.shape[3] > 1
    assert spatial.dtype == features.dtype == torch.float32
    assert features.shape == everywhere.shape == (5, network.width)
    if not network.has_class_token:  # then the pooling reads the map alone, and begins with its mean
        torch.testing.assert_close(everywhere, features, atol=1e-5, rtol=1e-4)
    weight, bias = network.head.weight.double(), network.head.bias.double()
    torch.testing.assert_close(logits.double(), features.double() @ weight.T + bias, atol=1e-5, rtol=1e-5)
    assert logits.shape == (5, CLASSES)


def test_the_class_token_is_put_to_every_cell(network, pixels):
    with torch.inference_mode():
        spatial = network.spatial(pixels)
        if not network.has_class_token:
            with pytest.raises(ValueError, match="no class token"):
                network.spatial(pixels, class_token=True)
            return
        both = network.spatial(pixels, class_token=True)
    depth = spatial.shape[1]
    assert both.shape == (5, 2 * depth, *spatial.shape[2:])
    torch.testing.assert_close(both[:, :depth], spatial)
    torch.testing.assert_close(both[:, depth:], both[:, depth:, :1, :1].expand_as(spatial))


def test_the_map_follows_the_image(network, pixels):
    """What changes in one corner of the image changes that corner of the map most."""
    changed = pixels.clone()
    changed[:, :, -8:, :8] = 255 - changed[:, :, -8:, :8]
    with torch.inference_mode():
        change = (network.spatial(changed) - network.spatial(pixels)).norm(dim=1).mean(dim=0)
    row, column = divmod(int(change.argmax()), len(change))
    assert row >= len(change) // 2
    assert column <= len(change) // 2


def test_an_image_gets_the_same_features_in_any_company(network, pixels):
    with torch.inference_mode():
        together = network.features(pixels)
        alone = torch.cat([network.features(pixels[i : i + 1]) for i in range(5)])
        again = network.features(pixels)
    assert torch.equal(together, again)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_the_state_holds_everything(backbone, network, pixels):
    other = backbone.build(CLASSES, SIDE, seed=9).eval()
    load_tensors(other, dump_tensors(network))
    with torch.inference_mode():
        assert torch.equal(other(pixels), network(pixels))
    assert {name.partition(".")[0] for name in dump_tensors(network)} <= {"trunk", "pool", "head"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_in_float32(backbone, network, pixels, dtype):
    if isinstance(backbone, SmallVit):  # the others' attention is of sizes that are not packed
        require_attention(dtype)
    half = backbone.build(CLASSES, SIDE, seed=1).ready("cpu", dtype)
    with torch.inference_mode():
        exact, rough = network.features(pixels), half.features(pixels)
        assert half(pixels).dtype == rough.dtype == half.spatial(pixels).dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.99
    assert next(half.trunk.parameters()).dtype == dtype


def test_a_checkpoint_that_is_missing_is_not_passed_over(backbone):
    knobs = {"architecture": backbone.architecture} if hasattr(backbone, "architecture") else {}
    with pytest.raises(FileNotFoundError, match="weights 'absent'"):
        type(backbone)(checkpoint="absent", **knobs).build(2, SIDE, 0)
