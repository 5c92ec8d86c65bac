"""The failures that are picked, by hand, and pictures of drawn birds."""

import re

import numpy as np
import pytest

from components.data.card import load_card
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.evaluation.pictures import HOT, SIDE
from components.models.clip.clip import Clip
from components.models.networks.backbones.small_cnn import SmallCnn
from components.models.segmentation.segmenters.object_mask import ObjectMask
from components.models.training.recipe import Recipe
from components.stages.segments import Segments
from components.studies.seg_mil.failures import draw_evidence, failure_pictures, failures
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from components.studies.seg_mil.objects import CONCEPTS as MISLED
from components.studies.seg_mil.objects import ELSEWHERE, MISSED, UNKNOWN, object_overlap
from tests.planted_bags import CONCEPTS, bags_of, data_of, reading_head
from tests.world import draw_waterbirds, run_stages

WIDTH = CONCEPTS + 1


def columns(*spans):
    return np.stack([np.broadcast_to((np.arange(10) >= a) & (np.arange(10) < b), (4, 10)) for a, b in spans])


def test_of_each_group_the_most_confident_failures_are_picked(tmp_path):
    n = 8
    strength = np.array([1, -9, -3, -2, -5, -4, 7, -6.0])  # above 0, class 0
    features = np.zeros((n, 2, WIDTH))
    features[:, 0, 0], features[:, 0, 1] = np.maximum(strength, 0), np.maximum(-strength, 0)
    features[:, 0, -1] = 8
    features[4, 1, -1] = 16  # attention on the second segment
    features[4, 1, 1] = 5
    labels = [0, 0, 0, 0, 0, 0, 1, 0]
    groups = [0, 1, 0, 0, 1, 1, 2, 3]
    bags = bags_of(features, [2] * n, labels, areas=np.full((n, 2), 0.4), groups=groups)
    seen, small = columns((0, 4), (4, 8)), columns((8, 10), (4, 8))
    masks = [small if i == 2 else seen for i in range(n)]
    objects = [None if i == 7 else columns((0, 4)) for i in range(n)]
    data = data_of(tmp_path, masks, objects, labels, groups)
    found = failures(reading_head(1.0, CONCEPTS), data, bags, per_group=2)
    assert [(f.row, groups[f.row], f.reason) for f in found] == [
        (2, 0, MISSED),
        (3, 0, MISLED),
        (1, 1, MISLED),
        (4, 1, ELSEWHERE),
        (6, 2, MISLED),
        (7, 3, UNKNOWN),
    ]
    assert [f.image_id for f in found] == [bags.bags.ids[f.row] for f in found]
    assert found[0].confidence == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-2)
    assert [f.row for f in failures(reading_head(1.0, CONCEPTS), data, bags)] == [2, 1, 6, 7]
    right = bags_of(features, [2] * n, (strength < 0).astype(int), groups=groups)
    assert failures(reading_head(1.0, CONCEPTS), data, right) == []


@pytest.fixture(scope="module")
def drawn(tiny_clip, tmp_path_factory):
    """Birds drawn, cut and encoded by the stages; the masks of two test images are not there."""
    card = load_card("toybirds").model_copy(update={"image_size": 48})
    root = draw_waterbirds(tmp_path_factory.mktemp("data"), per_group=4)
    index = WaterbirdsCsv().read(root, card)
    for row in np.flatnonzero(index.splits == "test")[:2]:
        index.beside(index.masks, row).unlink()
    method = SegMilCbm(
        clip=Clip(checkpoint=str(tiny_clip)),
        backbone=SmallCnn(width=4),
        recipe=Recipe(epochs=2, batch_size=8, learning_rate=1e-2),
        epochs=3,
    )
    stages = {**method.stages(card, 0), "object_masks": Segments(segmenter=ObjectMask())}
    return method, run_stages(stages, card, index, tmp_path_factory.mktemp("columns"))


def test_images_without_a_mask_are_in_the_bags_all_the_same(drawn):
    method, data = drawn
    test = data.split("test").ids
    assert data.usable(test).all()
    fitted = method.fit(data, 0, lambda step, **metrics: None)
    overlap = object_overlap(data, method.bags(fitted, data, test).bags)
    assert overlap.known.tolist() == [False] * 2 + [True] * (len(test) - 2)
    assert overlap.best_iou[2:].mean() > 0.5, "superpixels find discs and squares on plain ground"


def test_failures_of_drawn_birds_are_drawn(drawn):
    """Beneath the segments, the evidence for the class predicted and for the true one."""
    method, data = drawn
    fitted = method.fit(data, 0, lambda step, **metrics: None)
    ids = data.split("test").ids
    head, bags = method.fitted_head(fitted), method.bags(fitted, data, ids)
    bags.labels[:] = 1 - method.predict(fitted, data, ids).argmax(axis=1)  # so that all are wrong
    pictures = failure_pictures(method, head, data, bags, data.card.vocabulary())
    found = failures(head, data, bags)
    assert [picture.name for picture in pictures] == [f"failure-{failure.image_id}" for failure in found]
    assert len(found) == 4, "one of each group"
    for failure, picture in zip(found, pictures, strict=True):
        assert f"image {failure.image_id}, " in picture.caption
        assert f"confidence {failure.confidence:.2f}" in picture.caption
        assert "wrong, is" in picture.caption
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.shape == (2 * SIDE, 2 * SIDE, 3)
        first, *_, last = picture.caption.split("\n")
        assert first.startswith(f"image {failure.image_id}, ")
        assert re.fullmatch(r"beneath: evidence for \w+ [\d.]+ \(left\), for \w+ [\d.]+ \(right\)", last)
    bags.labels[:] = 1 - bags.labels
    assert failure_pictures(method, head, data, bags, data.card.vocabulary()) == []


def test_evidence_is_drawn_on_one_scale_where_it_is_above_zero():
    """The first map is hot on the left, the second half as hot on the right, and less than nothing is grey."""
    image = np.full((8, 8, 3), 100, np.uint8)
    maps = np.zeros((3, 8, 8))
    maps[0, :, :4], maps[0, :, 4:], maps[1, :, 4:], maps[2] = 2.0, -5.0, 1.0, -1.0
    drawn = draw_evidence(image, maps).astype(int)
    grey, hot = np.full(3, 100), 100 + 0.65 * (HOT - 100)
    middle = SIDE // 2
    for column, expected in (
        (10, hot),
        (SIDE - 10, grey),
        (SIDE + 10, grey),
        (2 * SIDE - 10, (grey + hot) / 2),
        (2 * SIDE + middle, grey),
    ):
        np.testing.assert_allclose(drawn[middle, column], expected, atol=1)
