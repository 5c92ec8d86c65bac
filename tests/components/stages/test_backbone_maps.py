"""Stored maps against a direct computation."""

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from scipy.ndimage import zoom
from torchvision.transforms.v2.functional import normalize

from components.data.columns import IMAGE_ID
from components.data.images import decode, resized
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.timm import Timm
from components.models.networks.network import dump_tensors, to_pixels
from components.models.training.recipe import Recipe
from components.stage import Batch
from components.stages.backbone_images import BackboneImages
from components.stages.backbone_maps import BackboneMaps
from components.stages.classifier import Classifier
from tests.world import column

SIDE = 64
CNN = SmallCnn(width=4)
IMAGES = [np.random.default_rng(n).integers(0, 256, (40 + 20 * n, 90, 3), dtype=np.uint8) for n in range(3)]


def run(stage, images=IMAGES, tensors=None):
    prepare = stage.preparation()
    batch = Batch([None] * len(images), [prepare(image) for image in images], {})
    return stage.load(tensors or {}, "cpu")(batch)


def maps_of(rows):
    (shape,) = set(map(tuple, rows.columns["shape"].to_pylist()))
    values = np.array(rows.columns["map"].to_pylist(), np.float32)
    return values.reshape(len(values), *shape)


def test_a_map_is_the_networks(tmp_path):
    rows = run(BackboneMaps(backbone=CNN, classifier=None, image_size=SIDE))
    network = CNN.build(1, SIDE, seed=0).eval()
    squares = np.stack([resized(image, SIDE) for image in IMAGES])
    with torch.inference_mode():
        expected = network.spatial(to_pixels(squares, "cpu")).numpy()
    np.testing.assert_allclose(maps_of(rows), expected, atol=1e-6, rtol=2**-10)
    assert rows.columns["map"].type == pa.list_(pa.float16(), 16 * 8 * 8)
    assert rows.model_inputs == 3


def test_stored_maps_are_read_as_the_docstring_says(tmp_path):
    rows = run(BackboneMaps(backbone=CNN, classifier=None, image_size=SIDE))
    stored = column(tmp_path, [pa.table({IMAGE_ID: [5, 2, 9], **rows.columns})])
    ids = np.array([2, 9, 5])
    shape = stored.array("shape", ids[:1])[0]
    np.testing.assert_array_equal(
        stored.array("map", ids).reshape(len(ids), *shape), maps_of(rows)[[1, 2, 0]]
    )
    assert stored.array("map", ids).dtype == np.float16


@pytest.mark.parametrize("grid_size", [1, 4, 7, 12, 16])
def test_the_grid_is_resized_bilinearly(grid_size):
    """Against scipy's, which like ours takes cells as areas and repeats the border."""
    stage = BackboneMaps(backbone=CNN, classifier=None, image_size=SIDE)
    whole = maps_of(run(stage)).astype(np.float64)
    found = maps_of(run(BackboneMaps(backbone=CNN, classifier=None, image_size=SIDE, grid_size=grid_size)))
    factor = grid_size / 8
    expected = zoom(whole, (1, 1, factor, factor), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(whole).max())
    assert found.shape == (3, 16, grid_size, grid_size)


def test_the_class_token_of_a_photograph_is_in_every_cell(test_data):
    image = decode(sorted((test_data("imagenet-mini") / "images").iterdir())[0])
    backbone = Timm(architecture="test_vit")
    stage = BackboneMaps(
        backbone=backbone, classifier=None, image_size=160, class_token=True, frame="center_crop"
    )
    (found,) = maps_of(run(stage, [image]))
    model = timm.create_model("test_vit").eval()
    model.load_state_dict(
        {
            name.removeprefix("trunk.model."): torch.tensor(value)
            for name, value in dump_tensors(backbone.build(1, 160, 0)).items()
            if name.startswith("trunk.")
        },
        strict=False,
    )
    square = torch.tensor(stage.preparation()(image)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        (tokens,) = model.forward_features(normalize(square / 255, [0.5] * 3, [0.5] * 3))
    patches = tokens[1:].T.reshape(64, 10, 10)
    expected = np.concatenate([patches, np.broadcast_to(tokens[0][:, None, None], patches.shape)])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=2**-10)


def test_maps_and_features_of_a_trained_classifier_belong_together():
    classifier = Classifier(backbone=CNN, recipe=Recipe(), n_classes=2, image_size=SIDE, seed=0)
    tensors = {"classifier": dump_tensors(CNN.build(2, SIDE, seed=5))}
    knobs = {"backbone": CNN, "classifier": classifier, "image_size": SIDE}
    maps = maps_of(run(BackboneMaps(**knobs), tensors=tensors))
    features = run(BackboneImages(**knobs), tensors=tensors).columns["features"].to_pylist()
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), features, atol=1e-3)


def test_a_value_beyond_float16_fails():
    tensors = dump_tensors(CNN.build(2, SIDE, seed=0))
    tensors["trunk.17.weight"] = tensors["trunk.17.weight"] + np.float32(1e6)
    classifier = Classifier(backbone=CNN, recipe=Recipe(), n_classes=2, image_size=SIDE, seed=0)
    stage = BackboneMaps(backbone=CNN, classifier=classifier, image_size=SIDE)
    with pytest.raises(OverflowError, match="float16"):
        run(stage, tensors={"classifier": tensors})
