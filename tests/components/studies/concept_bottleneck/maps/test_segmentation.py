"""Concept maps as segmentations: a model of two classes and three concepts, planted on drawn birds."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.columns import Data
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.pixels.frames import framed_mask
from components.pixels.places import centres
from components.studies.concept_bottleneck.maps.concept_maps import ConceptHead
from components.studies.concept_bottleneck.maps.segmentation import (
    class_heatmaps,
    concept_segmentation_metrics,
    strongest_concept_heatmaps,
)
from tests.world import draw_waterbirds

SIDE = 48
CARD = load_card("toybirds").model_copy(update={"image_size": SIDE})
CELLS = 12
HEAD = ConceptHead(
    weight=np.array([[1.0, 0.2, -0.1], [-0.3, 0.1, 0.9]]),
    bias=np.zeros(2),
    mean=np.array([0.1, 0.2, 0.3]),
    std=np.array([1.0, 0.5, 2.0]),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path_factory.mktemp("data"), side=SIDE), CARD)
    return Data(CARD, index)


def mask(data, image_id):
    (row,) = data.rows(np.array([image_id]))
    found = np.asarray(Image.open(data.index.beside(data.index.masks, int(row))))
    return framed_mask(found, SIDE, "squash")


def coarse(data, image_id):
    """The mask's share of each cell."""
    cell = SIDE // CELLS
    return mask(data, image_id).reshape(CELLS, cell, CELLS, cell).mean(axis=(1, 3))


def values(metrics):
    return {metric.name: metric.value for metric in metrics}


def test_a_model_whose_deciding_concept_is_the_object_segments_it(data):
    """Concept 0 is on the object and decides for class 0; concept 2 is everywhere else and decides for 1."""

    def maps(ids):
        on = np.stack([coarse(data, i) for i in ids])
        return np.stack([9 * on, 0 * on + 0.2, 2 * (1 - on)], axis=1)

    def scored(label):
        return values(
            concept_segmentation_metrics(
                data, "test", HEAD, maps, lambda ids: np.full(len(ids), label), "squash"
            )
        )

    right, wrong = scored(0), scored(1)
    for name in ("mean_iou", "mean_iou_strongest_concept"):
        assert right[name] > 0.75
        assert wrong[name] < 0.2


@pytest.mark.parametrize("pool", ["mean", "softmax", "max", "topk"])
def test_class_heatmaps_are_the_gradient_of_the_logit_times_the_maps(pool):
    """At its cells the up-sampled map is W (a c - mu / cells) / std, written here with loops."""
    stream = np.random.default_rng(3)
    maps = stream.normal(size=(2, 3, 4, 4))
    head = replace(HEAD, pool=pool)
    heat = class_heatmaps(head, maps, np.array([1, 0]), 4)
    for image, label in ((0, 1), (1, 0)):
        weights = head.cell_weights(maps[image])
        expected = np.zeros((4, 4))
        for k in range(3):
            share = weights[k] * maps[image, k] - HEAD.mean[k] / 16
            expected += HEAD.weight[label, k] * share / HEAD.std[k] * (16 if pool == "mean" else 1)
        np.testing.assert_allclose(heat[image], expected, atol=1e-12)
        total = heat[image].mean() if pool == "mean" else heat[image].sum()
        assert total == pytest.approx(head.logits(maps[image])[label])


def test_the_strongest_concept_may_be_one_whose_absence_counts():
    """Its map is drawn less the mean of all concepts in each cell, and its sign is kept
    (docs/methods/concept_bottlenecks.md, "Concept maps as segmenters")."""
    maps = np.zeros((1, 3, 2, 2))
    maps[0, 2, 0, 1] = 8.0
    head = ConceptHead(
        weight=np.array([[0.1, 0.1, -5.0], [0.0, 0.0, 0.0]]),
        bias=np.zeros(2),
        mean=np.zeros(3),
        std=np.ones(3),
    )
    (heat,) = strongest_concept_heatmaps(head, maps, np.array([0]), 2)
    np.testing.assert_allclose(heat, [[0, 8 - 8 / 3], [0, 0]])


def test_without_a_concept_that_counts_the_heatmap_says_nothing():
    head = ConceptHead(weight=np.zeros((2, 3)), bias=np.array([1.0, 0.0]), mean=np.zeros(3), std=np.ones(3))
    maps = np.random.default_rng(0).normal(size=(2, 3, 2, 2))
    assert not strongest_concept_heatmaps(head, maps, np.array([0, 1]), 6).any()
    assert not class_heatmaps(head, maps, np.array([0, 1]), 6).any()


def test_maps_lie_where_the_circles_were():
    """With centres of circles the largest value is at the circle, not in the middle of a cell."""
    maps = np.zeros((1, 3, 3, 3))
    maps[0, 0, 0, 2] = 5.0
    middles = centres(3, 8, 48, "stride")
    (heat,) = class_heatmaps(HEAD, maps, np.array([0]), 48, middles)
    assert np.unravel_index(heat.argmax(), heat.shape) == (0, 36)
    column = heat[12]
    assert column[12] == column[24] < column[30] < column[36] == column[47]
