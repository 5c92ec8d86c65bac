"""Stored heatmaps against the attributions themselves."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from components.data.columns import IMAGE_ID
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.networks.backbones.small_vit import SmallVit
from components.models.networks.backbones.torchvision import Torchvision
from components.models.networks.network import dump_tensors, load_tensors, to_pixels
from components.models.training.recipe import Recipe
from components.pixels.frames import framed
from components.stage import Batch
from components.stages.classifier import Classifier
from components.studies.explanations.attributions.gradcam import Gradcam
from components.studies.explanations.attributions.integrated_gradients import IntegratedGradients
from components.studies.explanations.attributions.lime import Lime
from components.studies.explanations.attributions.lrp import Lrp
from components.studies.explanations.attributions.score_cam import ScoreCam
from components.studies.explanations.stages.heatmaps import Heatmaps
from tests.world import column

SIDE = 64
CNN = SmallCnn(width=4)
CLASSIFIER = Classifier(backbone=CNN, recipe=Recipe(), n_classes=3, image_size=SIDE, seed=0)
KNOBS = {"backbone": CNN, "classifier": CLASSIFIER, "image_size": SIDE}
IMAGES = [np.random.default_rng(n).integers(0, 256, (40 + 20 * n, 90, 3), dtype=np.uint8) for n in range(3)]


@pytest.fixture(scope="module")
def network():
    """With logits that tell the images apart."""
    network = CNN.build(3, SIDE, seed=5).eval()
    with torch.no_grad():
        network.head.weight *= 20
    return network


def run(stage, network, images=IMAGES):
    prepare = stage.preparation()
    batch = Batch([None] * len(images), [prepare(image) for image in images], {})
    return stage.load({"classifier": dump_tensors(network)}, "cpu")(batch)


@pytest.mark.parametrize("attribution", [Gradcam(), Lrp(reduction="signed"), Lime(n_samples=30)])
def test_it_explains_the_predicted_class(attribution, network, tmp_path):
    rows = run(Heatmaps(**KNOBS, attribution=attribution, frame="center_crop"), network)
    squares = np.stack([framed(image, SIDE, "center_crop") for image in IMAGES])
    with torch.no_grad():
        probability, label = network(to_pixels(squares, "cpu")).softmax(1).max(1)
    assert rows.columns["label"].to_pylist() == label.tolist()
    np.testing.assert_allclose(rows.columns["probability"], probability, rtol=1e-5)
    stored = column(tmp_path, [pa.table({IMAGE_ID: [5, 2, 9], **rows.columns})])
    ids = np.array([5, 2, 9])
    heatmaps = stored.array("heatmap", ids)
    assert heatmaps.dtype == np.float16
    assert np.abs(heatmaps).max(1).tolist() == [1, 1, 1]
    scale = stored.read(ids, ["scale"])["scale"].to_numpy()
    expected = attribution.explain(network, squares, label.numpy())
    found = (heatmaps.astype(np.float32) * scale[:, None]).reshape(3, SIDE, SIDE)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    assert Heatmaps(**KNOBS, attribution=attribution).describe(stored).numbers == {"empty_share": 0}


def test_small_relevances_keep_their_order_in_float16(network):
    """A thousandth of the weights: without a scale of its own a pixel's would be below float16."""
    small = CNN.build(3, SIDE, seed=5).eval()
    load_tensors(small, dump_tensors(network))
    with torch.no_grad():
        small.head.weight *= 1e-3
        small.head.bias.zero_()
        network.head.bias.zero_()
    stage = Heatmaps(**KNOBS, attribution=IntegratedGradients(n_steps=5))
    large, found = (run(stage, x) for x in (network, small))
    assert large.columns["label"] == found.columns["label"]
    first, second = (np.array(rows.columns["heatmap"].to_pylist()) for rows in (large, found))
    np.testing.assert_allclose(first, second, atol=2e-3)
    np.testing.assert_allclose(found.columns["scale"], np.array(large.columns["scale"]) * 1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("attribution", "passes"),
    [(Gradcam(), 1), (IntegratedGradients(n_steps=7), 7), (Lime(n_samples=30), 30), (ScoreCam(), 1 + 16)],
)
def test_its_passes_are_counted(attribution, passes, network):
    """One more an image finds the class; ScoreCAM needs one for the map and one for each channel."""
    assert run(Heatmaps(**KNOBS, attribution=attribution), network).model_inputs == 3 * (1 + passes)


def test_where_nothing_speaks_for_a_class_the_heatmap_is_0(tmp_path):
    constant = CNN.build(3, SIDE, seed=5)
    with torch.no_grad():
        constant.head.weight.zero_()
    stage = Heatmaps(**KNOBS, attribution=Gradcam())
    rows = run(stage, constant)
    assert not np.array(rows.columns["heatmap"].to_pylist()).any()
    assert rows.columns["scale"].to_pylist() == [0, 0, 0]
    found = stage.describe(column(tmp_path, [pa.table({IMAGE_ID: [1, 2, 3], **rows.columns})]))
    assert found.numbers == {"empty_share": 1}
    assert found.warning == "100% of the heatmaps say nothing"


def test_a_logit_that_is_not_finite_fails():
    broken = CNN.build(3, SIDE, seed=5)
    with torch.no_grad():
        broken.head.bias[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        run(Heatmaps(**KNOBS, attribution=Gradcam()), broken)


def test_a_network_that_it_cannot_explain_is_refused_before_any_image():
    mobile = Torchvision(architecture="mobilenet_v3_small")
    classifier = Classifier(backbone=mobile, recipe=Recipe(), n_classes=3, image_size=SIDE, seed=0)
    stage = Heatmaps(backbone=mobile, classifier=classifier, image_size=SIDE, attribution=Lrp())
    with pytest.raises(ValueError, match=r"^lrp has no rule for [^\n]*$"):
        stage.load({"classifier": dump_tensors(mobile.build(3, SIDE, seed=0))}, "cpu")


def test_passes_of_a_transformer_that_is_written_out_are_counted_too():
    vit = SmallVit(width=16)
    classifier = Classifier(backbone=vit, recipe=Recipe(), n_classes=3, image_size=SIDE, seed=0)
    knobs = {"backbone": vit, "classifier": classifier, "image_size": SIDE}
    found = run(Heatmaps(**knobs, attribution=Lrp()), vit.build(3, SIDE, seed=0))
    assert found.model_inputs == 3 * 2


def test_it_computes_in_single_precision_whatever_the_backbones():
    stages = [
        Heatmaps(**{**KNOBS, "backbone": SmallCnn(width=4, precision=precision)}, attribution=Gradcam())
        for precision in ("auto", "bf16", "fp32")
    ]
    assert stages[0] == stages[1] == stages[2]
