"""Overlap of bags with object masks against counted pixels, and the reasons of failures by hand."""

import numpy as np
import pytest

from components.pixels.bags import WHOLE_IMAGE
from components.studies.seg_mil.objects import CONCEPTS, ELSEWHERE, MISSED, UNKNOWN, object_overlap
from tests.planted_bags import bags_of, data_of

SIDE = 10


def area(*boxes):
    """The union of some boxes (top, bottom, left, right) as a mask (SIDE, SIDE)."""
    mask = np.zeros((SIDE, SIDE), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def bags_and_data(folder, masks, objects, segments=None):
    counts = [len(one) for one in (masks if segments is None else segments)]
    size = max(counts)
    shares, places = np.zeros((len(masks), size)), np.full((len(masks), size), WHOLE_IMAGE)
    for row, found in enumerate(masks):
        chosen = range(len(found)) if segments is None else segments[row]
        for place, i in enumerate(chosen):
            places[row, place] = i
            shares[row, place] = 1.0 if i == WHOLE_IMAGE else found[i].mean()
    bags = bags_of(np.zeros((len(masks), size, 1)), counts, [0] * len(masks), areas=shares, segments=places)
    return bags.bags, data_of(folder, masks, objects, [0] * len(masks))


def test_overlaps_against_counted_pixels(tmp_path):
    stream = np.random.default_rng(0)
    sizes = [(SIDE, SIDE), (7, 12), (30, 21), (16, 16)]
    counts, chosen = [4, 6, 3, 2], [[2, 0], [5, 1, 3], [0, 1, 2], [WHOLE_IMAGE]]
    masks = [stream.random((n, *size)) < 0.4 for n, size in zip(counts, sizes, strict=True)]
    objects = [stream.random((1, *size)) < 0.5 for size in sizes]
    bags, data = bags_and_data(tmp_path, masks, objects, chosen)
    found = object_overlap(data, bags)
    assert found.known.all()
    for row, segments in enumerate(chosen):
        truth = objects[row][0]
        cut = [np.ones_like(truth) if i == WHOLE_IMAGE else masks[row][i] for i in segments]
        shares = [(mask & truth).sum() / mask.sum() for mask in cut]
        np.testing.assert_allclose(found.on_object[row, : len(segments)], shares, atol=1e-12)
        assert (found.on_object[row, len(segments) :] == 0).all()
        best = max((mask & truth).sum() / (mask | truth).sum() for mask in cut)
        assert found.best_iou[row] == pytest.approx(best)
        mostly = [mask for mask, share in zip(cut, shares, strict=True) if share >= 0.5]
        covered = (np.any(mostly, axis=0) & truth).sum() / truth.sum() if mostly else 0.0
        assert found.covered[row] == pytest.approx(covered)


def test_images_without_an_object_are_not_known(tmp_path):
    """Neither in the column nor with a segment there; and none at all without a column."""
    segment = area((0, 5, 0, 5))[None]
    objects = [segment, None, segment[:0]]
    bags, data = bags_and_data(tmp_path / "some", [segment] * 3, objects)
    assert object_overlap(data, bags).known.tolist() == [True, False, False]
    assert object_overlap(data, bags).on_object[:, 0].tolist() == [1, 0, 0]
    bags, data = bags_and_data(tmp_path / "none", [segment] * 3, None)
    found = object_overlap(data, bags)
    assert not found.known.any()
    assert found.reasons(np.ones((3, 1)), bags.areas) == [UNKNOWN] * 3


BIRD = area((2, 8, 2, 7))  # 30 pixels
LEFT, RIGHT, GROUND = area((2, 8, 2, 4)), area((2, 8, 4, 7)), area((8, 10, 0, 10))


def test_attention_on_the_object_and_what_areas_would_have(tmp_path):
    half = area((2, 8, 2, 7), (8, 10, 0, 10), (0, 1, 0, 10))  # 60 pixels, half of them the bird
    bags, data = bags_and_data(tmp_path, [np.stack([BIRD, GROUND, half])], [BIRD[None]])
    found = object_overlap(data, bags)
    assert found.on_object.tolist() == [[1, 0, 0.5]]
    assert found.attended(np.array([[0.6, 0.3, 0.1]])).tolist() == [pytest.approx(0.65)]
    assert found.expected(bags.areas).tolist() == [pytest.approx((30 + 0.5 * 60) / 110)]


@pytest.mark.parametrize(
    ("segments", "attention", "reason"),
    [
        ([BIRD, GROUND], [0.7, 0.3], CONCEPTS),
        ([BIRD, GROUND], [0.5, 0.5], ELSEWHERE),  # the areas would have 0.6 of it on the bird
        ([LEFT, RIGHT, GROUND], [0.5, 0.4, 0.1], CONCEPTS),  # in pieces it is there as well
        ([LEFT, GROUND], [1.0, 0.0], MISSED),  # two fifths of the bird
        ([RIGHT, GROUND], [0.9, 0.1], CONCEPTS),  # three fifths
        ([~BIRD, GROUND], [0.5, 0.5], MISSED),
        ([area((0, 10, 0, 10))], [1.0], MISSED),  # the bird is in it, with much else
        ([area((2, 8, 1, 8)), GROUND], [0.1, 0.9], ELSEWHERE),
    ],
)
def test_reasons_on_masks_made_by_hand(tmp_path, segments, attention, reason):
    bags, data = bags_and_data(tmp_path, [np.stack(segments)], [BIRD[None]])
    assert object_overlap(data, bags).reasons(np.array([attention]), bags.areas) == [reason]


def test_a_whole_image_has_missed_the_object_unless_it_fills_the_image(tmp_path):
    """With one segment, attention can be nowhere else."""
    masks = [np.zeros((0, SIDE, SIDE), bool)] * 2
    objects = [BIRD[None], area((0, 10, 0, 6))[None]]
    bags, data = bags_and_data(tmp_path, masks, objects, [[WHOLE_IMAGE]] * 2)
    assert object_overlap(data, bags).reasons(np.ones((2, 1), np.float32), bags.areas) == [MISSED, CONCEPTS]


def test_the_order_and_company_of_images_do_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("components.studies.seg_mil.objects.IMAGES_AT_ONCE", 2)
    stream = np.random.default_rng(1)
    masks = [stream.random((2, SIDE, SIDE)) < 0.5 for _ in range(5)]
    objects = [None if i == 1 else stream.random((1, SIDE, SIDE)) < 0.5 for i in range(5)]
    bags, data = bags_and_data(tmp_path, masks, objects)
    whole = object_overlap(data, bags)
    assert whole.known.tolist() == [True, False, True, True, True]
    for row in range(5):
        alone, _ = bags_and_data(tmp_path / str(row), [masks[row]], None)
        alone.ids[:] = bags.ids[row]
        found = object_overlap(data, alone)
        np.testing.assert_array_equal(found.on_object[0], whole.on_object[row])
        assert found.covered[0] == whole.covered[row]


def test_pixels_that_count_nowhere_are_in_no_share(tmp_path):
    """The segment has 30 pixels of the bird and 10 beside it; 6 of these are its border."""
    segment = BIRD | area((8, 10, 2, 7))
    border = area((8, 9, 2, 7), (9, 10, 2, 3))
    bags, data = bags_and_data(tmp_path / "told", [segment[None]], [np.stack([BIRD, border])])
    assert object_overlap(data, bags).on_object[0, 0] == pytest.approx(30 / 34)
    assert object_overlap(data, bags).best_iou[0] == pytest.approx(30 / 34)
    bags, data = bags_and_data(tmp_path / "all", [border[None]], [np.stack([BIRD, border])])
    assert object_overlap(data, bags).on_object[0, 0] == 0
