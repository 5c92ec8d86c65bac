"""LIME: the package on torchvision's model, and superpixels of known weights."""

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm
from scipy.stats import spearmanr
from torch import nn
from torchvision.transforms.v2.functional import normalize

from components.models.networks.network import Network
from components.models.networks.statistics import CENTRED, IMAGENET
from components.studies.explanations.attributions.lime import Lime

SIDE, CELLS = 64, 4


@pytest.mark.parametrize("hide_color", ["mean", "black"])
def test_it_is_the_packages_on_torchvisions_model(explained, hide_color):
    def probabilities(images):
        x = normalize(torch.tensor(images).permute(0, 3, 1, 2) / 255, *IMAGENET)
        return explained.plain(x).softmax(1).numpy()

    image, label = explained.images[0], int(explained.labels[0])
    cut = SegmentationAlgorithm("quickshift", kernel_size=4 * 96 / 224, max_dist=200 * 96 / 224, ratio=0.2)
    explanation = LimeImageExplainer(random_state=3).explain_instance(
        image,
        probabilities,
        top_labels=1,
        hide_color=None if hide_color == "mean" else 0,
        num_samples=60,
        segmentation_fn=cut,
    )
    expected = np.zeros((96, 96))
    for segment, weight in explanation.local_exp[label]:
        expected[explanation.segments == segment] = weight
    attribution = Lime(n_samples=60, hide_color=hide_color, seed=3)
    (found,) = attribution.explain(explained.network, image[None], explained.labels[:1])
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert found.min() < 0 < found.max()


def test_at_224_pixels_the_superpixels_are_the_packages(photographs):
    image = np.kron(photographs[0], np.ones((3, 3, 1), np.uint8))[:224, :224]
    package = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=0)
    np.testing.assert_array_equal(Lime().superpixels(image), package(image))


def test_a_small_image_has_about_as_many_superpixels_as_a_large_one(photographs):
    large, small = (len(np.unique(Lime().superpixels(photographs[0][::s, ::s]))) for s in (1, 2))
    assert 0.5 < small / large < 2


def squares(stream):
    """CELLS x CELLS squares of one colour each, and their label map."""
    colours = stream.permutation(np.linspace(90, 255, CELLS**2)).astype(np.uint8)
    side = SIDE // CELLS
    image = np.kron(colours.reshape(CELLS, CELLS), np.ones((side, side), np.uint8))
    image = np.stack([image, 255 - image // 2, np.roll(image, side, 0)], axis=-1)
    return image, np.kron(np.arange(CELLS**2).reshape(CELLS, CELLS), np.ones((side, side), int))


class Given(Lime):
    """With superpixels that are given."""

    def superpixels(self, image):
        return squares(np.random.default_rng(0))[1]


def test_where_the_class_is_linear_in_the_superpixels_it_finds_their_weights():
    """Hidden is black: a square's weight is what its colour adds to the logit, which is nearly a quarter of it
    in the probability, as the logits are small."""
    stream = np.random.default_rng(0)
    image, segments = squares(stream)
    network = Network(
        nn.AdaptiveAvgPool2d(CELLS), nn.Linear(3 * CELLS**2, 2), 3 * CELLS**2, CENTRED, nn.Flatten()
    )
    weights = 0.02 * torch.tensor(stream.standard_normal((3, CELLS, CELLS)), dtype=torch.float32)
    with torch.no_grad():
        network.head.weight.copy_(torch.stack([weights.flatten(), torch.zeros(3 * CELLS**2)]))
        network.head.bias.zero_()
    cells = torch.tensor(image[:: SIDE // CELLS, :: SIDE // CELLS]).permute(2, 0, 1) / 255
    truth = (weights * 2 * cells).sum(0).flatten().numpy() / 4  # black is -1 and white 1 for the trunk
    (found,) = Given(hide_color="black").explain(network.eval(), image[None], np.array([0]))
    found = np.array([found[segments == cell].mean() for cell in range(CELLS**2)])
    assert spearmanr(found, truth).statistic > 0.99
    np.testing.assert_allclose(found, truth, atol=0.1 * np.abs(truth).max())


def test_one_superpixel_and_a_constant_class_are_defined():
    network = Network(nn.AdaptiveAvgPool2d(1), nn.Linear(3, 2), 3, CENTRED, nn.Flatten()).eval()
    image = np.full((1, 32, 32, 3), 7, np.uint8)
    with torch.no_grad():
        network.head.weight.zero_()
    found = Lime(n_samples=10, max_dist=1e6).explain(network, image, np.array([0]))
    assert found.shape == (1, 32, 32)
    assert not found.any()
