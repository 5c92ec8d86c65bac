"""Diagnostics of heads by hand, on masks of a few pixels."""

import numpy as np
import pytest
import torch

from components.models.segmentation.segmenters.whole_image import WholeImage
from components.pixels.bags import WHOLE_IMAGE
from components.studies.seg_mil.diagnostics import diagnostics
from components.studies.seg_mil.head import of_class
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from components.studies.seg_mil.objects import OF_BAGS, OF_OBJECTS
from tests.planted_bags import CONCEPTS, bags_of, data_of, head_of, reading_head

METHOD = SegMilCbm()
GROUPS = ("landbird on land", "landbird on water", "waterbird on land", "waterbird on water")


def values(metrics):
    found = {(m.name, m.group): m.value for m in metrics}
    assert len(found) == len(metrics), "a number is there twice"
    assert {m.split for m in metrics} <= {"test"}
    return found


def columns(*spans):
    """Masks of some columns (first, past the last) of a 4 x 10 image."""
    return np.stack([np.broadcast_to((np.arange(10) >= a) & (np.arange(10) < b), (4, 10)) for a, b in spans])


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four bags, one of each group: (bags, data). The object is the first four columns, but of image 3."""
    masks = [columns((0, 4), (4, 10))] * 3 + [columns((0, 5), (5, 10))]
    objects = [columns((0, 4))] * 3 + [None]
    n = CONCEPTS + 1
    features = np.zeros((4, 2, n))
    features[:, 0, 0] = 5  # the first segment says class 0
    features[0, 0, -1] = np.log(3)  # attention 3 : 1
    features[1, 1, -1] = np.log(4)  # 1 : 4, so elsewhere
    features[3, 1, -1] = 30
    bags = bags_of(
        features,
        [2, 2, 1, 2],
        [1, 1, 1, 0],
        areas=np.array([[0.4, 0.6]] * 3 + [[0.5, 0.5]]),
        groups=[0, 1, 2, 3],
    )
    bags.bags.segments[2, 0] = WHOLE_IMAGE
    bags.bags.areas[2, 0] = 1
    data = data_of(tmp_path_factory.mktemp("four"), masks, objects, bags.labels, bags.groups)
    return bags, data


def test_numbers_by_hand(four):
    bags, data = four
    found = values(diagnostics(METHOD, reading_head(1.0, CONCEPTS), data, bags, "test"))

    def close(name, expected, group="all"):
        assert found[name, group] == pytest.approx(expected, abs=1e-3), (name, group)

    close("segments_per_bag", 7 / 4)
    close("attention_concentrated", 2 / 4)  # one segment alone, and 30 : 0
    entropies = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.75, 0.8)]
    close("attention_entropy", sum(entropies) / 4)
    close("whole_image_fallback", 1 / 4)
    close("whole_image_fallback", 1.0, GROUPS[2])
    close("whole_image_fallback", 0.0, GROUPS[3])
    close("whole_image_fallback_too_often", 1)
    close("object_mask", 3 / 4)
    close("attention_on_object", (0.75 + 0.2 + 0.4) / 3)
    close("attention_on_object_by_area", 0.4)
    close("attention_on_object_excess", (0.35 - 0.2 + 0.0) / 3)
    close("attention_on_object_excess", 0.35, GROUPS[0])
    close("object_covered", (1 + 1 + 0) / 3)
    close("object_best_iou", (1 + 1 + 0.4) / 3)
    # all with a mask are wrong: one saw the object, one did not look, one had it in no segment
    for group, reason in zip(GROUPS, ("concepts", "elsewhere", "missed"), strict=False):
        close(f"failures_{reason}", 1 / 3)
        close(f"failures_{reason}", 1.0, group)
    assert ("attention_on_object", GROUPS[3]) not in found
    assert ("failures_missed", GROUPS[3]) not in found


def test_right_images_are_no_failures(four):
    _, data = four
    right = bags_of(np.zeros((4, 2, CONCEPTS + 1)), [2, 2, 1, 2], [0] * 4)
    found = values(diagnostics(METHOD, reading_head(1.0, CONCEPTS), data, right, "test"))
    assert np.isnan(found["failures_missed", "all"])
    assert found["object_mask", "all"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("kind", [MilV1, MilV2])
def test_attention_is_that_of_the_predicted_class(four, kind):
    bags, data = four
    head = head_of(kind, CONCEPTS + 1, CONCEPTS, 2)
    logits, output = run_head(head, bags)
    attention = of_class(output.attention, torch.from_numpy(logits.argmax(axis=1))).numpy()
    found = values(diagnostics(METHOD, head, data, bags, "test"))
    on_object = (attention[0, 0] + attention[1, 0] + 0.4) / 3
    assert found["attention_on_object", "all"] == pytest.approx(on_object, abs=1e-6)
    logs = np.log(np.where(attention > 0, attention, 1))
    assert found["attention_entropy", "all"] == pytest.approx(
        -(attention * logs).sum(axis=1).mean(), abs=1e-6
    )
    assert found["concept_cosine_above_constant", "all"] <= found["concept_cosine", "all"] <= 1


@pytest.mark.parametrize(("whole", "flag"), [(0, 0), (2, 0), (3, 1), (20, 1)])
def test_whole_images_in_more_than_a_tenth_of_the_bags_are_flagged(tmp_path, whole, flag):
    """Property 7 of docs/methods/seg_mil.md, "Checked properties"; but not where the whole image is
    what was asked for."""
    bags = bags_of(np.zeros((20, 2, CONCEPTS + 1)), [1] * 20, [0] * 20)
    bags.bags.segments[:whole, 0] = WHOLE_IMAGE
    data = data_of(tmp_path, [columns((0, 4))] * 20, None, bags.labels)
    for method, expected in ((METHOD, flag), (SegMilCbm(segmenter=WholeImage()), 0)):
        found = values(diagnostics(method, reading_head(1.0, CONCEPTS), data, bags, "test"))
        assert found["whole_image_fallback", "all"] == pytest.approx(whole / 20)
        assert found["whole_image_fallback_too_often", "all"] == expected


@pytest.mark.filterwarnings("error")
def test_without_masks_or_images_the_rest_is_there(four, tmp_path):
    bags, _ = four
    head = reading_head(1.0, CONCEPTS)
    plain = data_of(tmp_path, [columns((0, 4), (4, 10))] * 4, None, bags.labels, bags.groups)
    names = {name for name, _ in values(diagnostics(METHOD, head, plain, bags, "test"))}
    assert names == {
        "concept_cosine",
        "concept_cosine_above_constant",
        "attention_entropy",
        "attention_concentrated",
        "segments_per_bag",
        "whole_image_fallback",
        "whole_image_fallback_too_often",
    }
    nothing = bags_of(np.zeros((0, 2, CONCEPTS + 1)), [], [])
    found = values(diagnostics(METHOD, head, plain, nothing, "test"))
    assert {name for name, _ in found} == names
    assert all(np.isnan(value) for value in found.values())


def test_a_search_may_go_by_these_names(four, tmp_path):
    bags, data = four
    head = reading_head(1.0, CONCEPTS)
    names = {m.name for m in diagnostics(METHOD, head, data, bags, "val") if m.group == "all"}
    assert names == OF_BAGS | OF_OBJECTS
    plain = data_of(tmp_path, [columns((0, 4), (4, 10))] * 4, None, bags.labels, bags.groups)
    assert {m.name for m in diagnostics(METHOD, head, plain, bags, "val") if m.group == "all"} == OF_BAGS
