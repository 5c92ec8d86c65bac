"""Explanations of bags by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.models.segmentation.segmenters.grounded_sam import GroundedSam
from components.pixels.bags import WHOLE_IMAGE
from components.studies.seg_mil.explanation import (
    evidence_maps,
    explain_bags,
    opposed,
    strongest_segments,
)
from components.studies.seg_mil.head import of_class
from components.studies.seg_mil.head_v1 import MilV1
from components.studies.seg_mil.head_v2 import MilV2
from components.studies.seg_mil.heads import run_head
from components.studies.seg_mil.methods.seg_mil_cbm import SegMilCbm
from tests.planted_bags import CARD, CONCEPTS, bags_of, data_of, head_of, reading_head

METHOD = SegMilCbm()
NAMES = CARD.vocabulary()
WIDTH = CONCEPTS + 1
every_head = pytest.mark.parametrize("kind", [MilV1, MilV2])


def columns(*spans):
    return np.stack([np.broadcast_to((np.arange(10) >= a) & (np.arange(10) < b), (4, 10)) for a, b in spans])


def test_evidence_maps_against_a_loop_over_pixels():
    stream = np.random.default_rng(0)
    evidence, masks = stream.standard_normal((5, 3)).astype(np.float32), stream.random((5, 6, 7)) < 0.4
    found = evidence_maps(evidence, masks)
    for c in range(3):
        for y in range(6):
            for x in range(7):
                there = [float(evidence[i, c]) for i in range(5) if masks[i, y, x]]
                assert found[c, y, x] == pytest.approx(sum(there) / len(there) if there else 0, abs=1e-7)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Three bags that `reading_head` reads: what concepts 0 and 1 are is what speaks for class 0 and 1."""
    features = np.zeros((3, 3, WIDTH))
    features[0, 0, 0], features[0, 1, 1], features[0, 0, -1] = 6, 3, np.log(2)
    features[1, :2, 0] = 4
    features[2, 0, 1] = 2
    bags = bags_of(features, [3, 2, 1], [0, 1, 1])
    bags.bags.segments[2, 0] = WHOLE_IMAGE
    bags.bags.segments[1, :2] = [2, 0]
    masks = [columns((0, 4), (4, 8), (2, 6))] * 3
    data = data_of(tmp_path_factory.mktemp("told"), masks, [columns((0, 4))] * 3, bags.labels)
    return bags, data


def test_what_each_segment_says_by_hand(told):
    bags, data = told
    first, second, third = explain_bags(METHOD, reading_head(1.0, CONCEPTS), data, bags, NAMES)
    np.testing.assert_allclose(first.weights, [0.5, 0.25, 0.25], atol=1e-3)
    # evidence is attention times concept: 0.5 x 6 for class 0, 0.25 x 3 for class 1
    bags.bags.concepts[0, :3] = [4, 2, 9]
    first, second, third = explain_bags(METHOD, reading_head(1.0, CONCEPTS), data, bags, NAMES)
    assert first.captions[0].startswith(f"landbird +3.00 (CLIP: {NAMES[4]}): {NAMES[0]}, ")
    assert first.captions[1].startswith(f"waterbird +0.75 (CLIP: {NAMES[2]}): {NAMES[1]}, ")
    assert first.captions[2].startswith(f"landbird +0.00 (CLIP: {NAMES[9]}): ")
    every = f"; names of {CONCEPTS} of {CONCEPTS} concepts hold"
    assert first.title == f"landbird (right){every}"
    np.testing.assert_array_equal(first.masks, columns((0, 4), (4, 8), (2, 6)))
    assert [e.image_id for e in (first, second, third)] == [0, 3, 6]
    np.testing.assert_array_equal(second.masks, columns((2, 6), (0, 4)))
    assert third.masks.all()
    assert third.title == f"waterbird (right){every}"


def test_a_concept_that_speaks_by_its_absence_is_said_to_be_absent(tmp_path):
    """Less than none of concept 1, which speaks for class 1, is evidence for class 0."""
    features = np.zeros((1, 1, WIDTH))
    features[0, 0, :2] = 1, -3
    data = data_of(tmp_path, [columns((0, 4))], None, np.zeros(1, np.int64))
    bags = bags_of(features, [1], [0])
    bags.bags.concepts[0, 0] = 3
    head = reading_head(1.0, CONCEPTS)
    (found,) = explain_bags(METHOD, head, data, bags, NAMES)
    assert found.captions == (f"landbird +4.00 (CLIP: {NAMES[3]}): NOT {NAMES[1]}, {NAMES[0]}",)
    (found,) = explain_bags(METHOD, head, data, bags, {NAMES[0]})  # the other's name does not hold
    assert found.captions == (f"landbird +4.00 (CLIP: {NAMES[3]}): unnamed, {NAMES[0]}",)
    assert found.title == f"landbird (right); names of 1 of {CONCEPTS} concepts hold"
    (found,) = explain_bags(METHOD, head, data, bags, {NAMES[2]})
    assert found.captions == (f"landbird +4.00 (CLIP: {NAMES[3]}): unnamed",), "both of them"


def test_concepts_that_mean_nothing_are_not_named(told):
    """What chose the segment is named instead, and the title says whose words these are."""
    bags, data = told
    bags.bags.concepts[0, :3], bags.bags.concepts[2, 0] = [4, 2, 9], WHOLE_IMAGE
    head = reading_head(1.0, CONCEPTS)
    first, _, third = explain_bags(METHOD, head, data, bags, ())
    assert first.captions[0] == f"landbird +3.00 (CLIP: {NAMES[4]})"
    assert first.captions[1] == f"waterbird +0.75 (CLIP: {NAMES[2]})"
    assert third.captions == ("waterbird +2.00 (the whole image)",)
    assert first.title == "landbird (right); words are CLIP's, the head's concepts mean nothing"
    found = explain_bags(replace(METHOD, segmenter=GroundedSam()), head, data, bags, ())[0]
    assert found.captions[2].endswith(f" (the detector: {NAMES[9]})")
    assert found.title.endswith("; words are the detector's, the head's concepts mean nothing")


def test_the_title_of_a_wrong_prediction_gives_the_reason(told):
    bags, data = told
    wrong = explain_bags(METHOD, reading_head(1.0, CONCEPTS), data, bags, NAMES)[1]
    every = f"; names of {CONCEPTS} of {CONCEPTS} concepts hold"
    assert wrong.title == f"landbird (wrong, is waterbird: it saw the object, the concepts misled){every}"
    unknown = data_of(data.index.root / "no masks", [columns((0, 4), (4, 8), (2, 6))] * 3, None, bags.labels)
    assert (
        explain_bags(METHOD, reading_head(1.0, CONCEPTS), unknown, bags, NAMES)[1].title
        == f"landbird (wrong, is waterbird){every}"
    )
    assert (
        explain_bags(
            METHOD, reading_head(1.0, CONCEPTS), data, bags_of(np.zeros((0, 3, WIDTH)), [], []), NAMES
        )
        == []
    )


@every_head
def test_what_segments_say_adds_up_to_the_margin(told, kind):
    """Between the predicted class and the one it is told apart from, less the offsets."""
    bags, data = told
    head = head_of(kind, WIDTH, CONCEPTS, 2)
    logits, output = run_head(head, bags)
    for row, explanation in enumerate(explain_bags(METHOD, head, data, bags, NAMES)):
        y = int(logits[row].argmax())
        margins = []
        for caption in explanation.captions:
            name, amount = caption.split(" (")[0].rsplit(" ", 1)
            margins.append(float(amount) if name == CARD.classes[y] else -float(amount))
        difference = (
            logits[row, y] - logits[row, 1 - y] - float(output.offset[row, y] - output.offset[row, 1 - y])
        )
        assert sum(margins) == pytest.approx(difference, abs=0.006 * len(margins))
        attention = [of_class(output.attention, torch.full((3,), c))[row].numpy() for c in (0, 1)]
        places = bags.bags.valid[row]
        np.testing.assert_allclose(explanation.weights, np.mean(attention, axis=0)[places], atol=1e-6)
        assert explanation.weights.sum() == pytest.approx(1, abs=1e-5)


def test_the_strongest_segments_by_hand(told):
    """As in `test_what_each_segment_says_by_hand`: 0.5 x 6 for class 0, 0.25 x 3 for class 1, in the first."""
    bags, data = told
    bags.bags.concepts[0, :3], bags.bags.concepts[1, :2] = [4, 2, 9], [4, 4]
    head = reading_head(1.0, CONCEPTS)
    first, second, third = strongest_segments(METHOD, head, data, bags, NAMES)
    amounts = [[value for _, value in one] for one in (first, second, third)]
    assert amounts == [
        pytest.approx([3.0, -0.75, 0.0], abs=1e-2),
        pytest.approx([2, 2], abs=1e-2),
        pytest.approx([2], abs=1e-2),
    ]
    assert first[0][0].startswith(f"segment 0 (CLIP: {NAMES[4]}): {NAMES[0]}, ")
    assert first[1][0].startswith(f"segment 1 (CLIP: {NAMES[2]}): {NAMES[1]}, ")
    assert [what.partition(" (")[0] for what, _ in second] == ["segment 2", "segment 0"], (
        "as the stage has them"
    )
    assert third[0][0].startswith("(the whole image): ")
    assert strongest_segments(METHOD, head, data, bags, ())[0][1][0] == f"segment 1 (CLIP: {NAMES[2]})"


@every_head
def test_of_many_segments_the_three_of_largest_margin_are_kept(tmp_path, kind):
    """Against a loop over every segment."""
    stream = np.random.default_rng(3)
    bags = bags_of(
        stream.standard_normal((40, 6, WIDTH)), stream.integers(1, 7, 40), stream.integers(0, 2, 40)
    )
    data = data_of(tmp_path, [columns((0, 4))] * 40, None, bags.labels)
    head = head_of(kind, WIDTH, CONCEPTS, 2)
    logits, output = run_head(head, bags)
    for row, said in enumerate(strongest_segments(METHOD, head, data, bags, NAMES)):
        y = int(logits[row].argmax())
        margins = {
            i: float(output.evidence[row, i, y] - output.evidence[row, i, 1 - y])
            for i in range(6)
            if bags.bags.valid[row, i]
        }
        order = sorted(margins, key=lambda i: -abs(margins[i]))[:3]
        assert [what.partition(" (")[0] for what, _ in said] == [f"segment {i}" for i in order]
        assert [value for _, value in said] == pytest.approx([margins[i] for i in order], abs=1e-3)


def test_the_rival_is_the_true_class_or_else_the_runner_up():
    logits = np.array([[3, 1, 2], [3, 1, 2], [3, 1, 2], [2, 2, 2.0]])
    predicted, rival = opposed(logits, np.array([0, 1, 2, 0]))
    assert predicted.tolist() == [0, 0, 0, 0]
    assert rival.tolist() == [2, 1, 2, 1]
