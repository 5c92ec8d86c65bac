"""Against scikit-learn, cases by hand, and what the protocol must give for maps of which all is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, jaccard_score

from components.metrics.heatmaps import (
    IGNORE,
    SegmentationScores,
    foreground,
    foreground_iou,
    normalised,
    pointing_accuracy,
    pointing_hit,
    relevance_mass,
)

seeds = st.integers(0, 2**32)


def world(seed, n=4, side=(7, 9), ignored=0.2):
    """Heatmaps that know a little about their masks, which have object, rest and ignored pixels."""
    stream = np.random.default_rng(seed)
    masks = stream.choice([0, 1, IGNORE], (n, *side), p=[0.6 - ignored / 2, 0.4 - ignored / 2, ignored])
    masks[:, 0, :3] = 0, 1, IGNORE
    return stream.normal(3, 2, (n, *side)) + (masks == 1), masks.astype(np.uint8)


def scored(heatmaps, masks):
    scores = SegmentationScores()
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        scores.add(heatmap, mask)
    return scores.metrics()


def by_scikit_learn(heatmaps, masks):
    found, truth, rows = [], [], []
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        h = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
        h, above, t = h[mask != IGNORE], (h > h.mean())[mask != IGNORE], mask[mask != IGNORE]
        found.append(above)
        truth.append(t)
        one_hot = np.concatenate([t == 0, t == 1])
        rows.append(
            {
                "mean_average_precision": average_precision_score(one_hot, np.concatenate([1 - h, h])),
                "mean_foreground_precision": average_precision_score(t, h),
                "mean_f1": f1_score(t, above),
                "mean_iou_per_image": jaccard_score(t, above, average="macro"),
                "mean_best_threshold_iou": max(
                    ((h >= x) & (t == 1)).sum() / ((h >= x) | (t == 1)).sum() for x in h
                ),
            }
        )
    found, truth = np.concatenate(found), np.concatenate(truth)
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    return {
        "pixel_accuracy": accuracy_score(truth, found),
        "mean_iou": jaccard_score(truth, found, average="macro"),
        # every pixel once in a map that has it, once in one that has not: half of each truth is found
        "mean_iou_random": jaccard_score(
            np.tile(truth, 2), np.repeat([True, False], len(truth)), average="macro"
        ),
        "mean_iou_all_background": jaccard_score(truth, np.zeros(len(truth)), average="macro"),
        **means,
    }


@given(seeds)
def test_every_score_against_scikit_learn(seed):
    heatmaps, masks = world(seed)
    found = scored(heatmaps, masks)
    assert found == pytest.approx(by_scikit_learn(heatmaps, masks), abs=1e-7)
    assert all(type(value) is float for value in found.values())


@given(seeds)
def test_the_overlap_of_one_image_against_scikit_learn(seed):
    (heatmap,), (mask,) = world(seed, n=1)
    counted = mask != IGNORE
    expected = jaccard_score(mask[counted], foreground(heatmap)[counted])
    assert foreground_iou(heatmap, mask) == pytest.approx(expected)


def test_two_images_by_hand():
    """Scaled maps (0, 1/4, 1/2, 1) and (0, 0, 1, 1) have means 7/16 and 1/2."""
    heatmaps = np.array([[[2.0, 3.0], [4.0, 6.0]], [[-1.0, -1.0], [1.0, 1.0]]])
    masks = np.array([[[0, 1], [0, 1]], [[0, 0], [IGNORE, 1]]], np.uint8)
    np.testing.assert_array_equal(normalised(heatmaps[0]), [[0, 0.25], [0.5, 1]])
    np.testing.assert_array_equal(foreground(heatmaps[0]), [[False, False], [True, True]])
    # 1st: 1 of 2 background and 1 of 2 object pixels found; 2nd: all 3 labelled ones
    found = scored(heatmaps, masks)
    assert found["pixel_accuracy"] == pytest.approx(5 / 7)
    assert found["mean_iou"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert found["mean_iou_per_image"] == pytest.approx(((1 / 3 + 1 / 3) / 2 + 1) / 2)
    assert found["mean_f1"] == pytest.approx((0.5 + 1) / 2)
    # object alone: + - + - from the top, so precision 1 at recall 1/2 and 2/3 at recall 1
    assert found["mean_foreground_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    # background 1+ .75- .5+ 0-, object 0- .25+ .5- 1+: tied at 1 (++), .75 (-), .5 (+-), .25 (+), 0 (--)
    both = (2 * 1 + 1 * 3 / 5 + 1 * 4 / 6) / 4
    assert found["mean_average_precision"] == pytest.approx((both + 1) / 2)
    assert found["mean_best_threshold_iou"] == pytest.approx((2 / 3 + 1) / 2)


def test_sums_over_the_set_are_not_means_over_images():
    """A large image wholly wrong and a small one wholly right: 4 of 40 pixels."""
    wrong, right = np.arange(36.0).reshape(6, 6), np.arange(4.0).reshape(2, 2)
    found = scored([wrong, right], [(~foreground(wrong)).astype(np.uint8), foreground(right)])
    assert found["pixel_accuracy"] == pytest.approx(4 / 40)
    assert found["mean_iou"] == pytest.approx(2 / 38)
    assert found["mean_iou_per_image"] == pytest.approx(0.5)


def disc(side=96, radius=17):
    y, x = np.indices((side, side)) - side / 2
    return (x**2 + y**2 < radius**2).astype(np.uint8)


def test_a_random_map_has_chance_whatever_the_size_of_the_object():
    mask, stream = disc(), np.random.default_rng(0)
    found = scored(stream.random((20, *mask.shape)), [mask] * 20)
    assert mask.mean() == pytest.approx(0.1, abs=0.005)
    assert found["mean_average_precision"] == pytest.approx(0.5, abs=0.01)
    assert found["pixel_accuracy"] == pytest.approx(0.5, abs=0.01)
    assert found["mean_foreground_precision"] == pytest.approx(mask.mean(), abs=0.01)


def of_the_map(scores):
    """The scores that a map has, without the floors that its masks have."""
    return [
        value for name, value in scores.items() if name not in ("mean_iou_random", "mean_iou_all_background")
    ]


def test_the_mask_itself_is_perfect_and_its_inverse_is_half():
    mask = disc()
    assert set(of_the_map(scored([mask * 1.0], [mask]))) == {1.0}
    inverse = scored([1.0 - mask], [mask])
    assert inverse["mean_average_precision"] == pytest.approx(0.5)
    assert inverse["pixel_accuracy"] == inverse["mean_iou"] == inverse["mean_f1"] == 0


def test_scores_of_both_channels_tie_where_only_rounding_tells_them_apart():
    """1 - 0.9 is not 0.1 in float64. Tenths, against the same scores as whole numbers."""
    tenths, mask = np.arange(11), np.random.default_rng(1).integers(0, 2, (1, 11)).astype(np.uint8)
    one_hot = np.concatenate([mask[0] == 0, mask[0] == 1])
    expected = average_precision_score(one_hot, np.concatenate([10 - tenths, tenths]))
    found = scored([0.3 * tenths[None] + 0.1], [mask])
    assert found["mean_average_precision"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, float("nan"), float("inf")])
def test_a_map_that_says_nothing_is_background(value):
    mask = disc()
    found = scored([np.full(mask.shape, value)], [mask])
    share = mask.mean()
    assert found["mean_average_precision"] == pytest.approx(0.5)
    assert found["pixel_accuracy"] == pytest.approx(1 - share)
    assert found["mean_iou"] == pytest.approx((1 - share) / 2)
    assert found["mean_f1"] == 0
    assert found["mean_foreground_precision"] == pytest.approx(share)
    assert relevance_mass(np.full(mask.shape, value), mask) == pytest.approx(share)
    assert pointing_hit(np.full(mask.shape, value), mask, 0) == pytest.approx(share)


def test_a_perfect_map_is_perfect_also_where_nothing_but_the_object_is_labelled():
    mask = np.where(disc() == 1, 1, IGNORE).astype(np.uint8)
    assert set(of_the_map(scored([disc() * 1.0], [mask]))) == {1.0}


def test_a_value_equal_to_the_mean_is_background():
    np.testing.assert_array_equal(foreground(np.array([[0.0, 1.0, 2.0]])), [[False, False, True]])


def test_a_map_that_says_something_only_about_ignored_pixels_is_no_constant_map():
    heatmap, mask = np.zeros((2, 2)), np.array([[0, 0], [1, IGNORE]], np.uint8)
    heatmap[1, 1] = 1  # so all labelled pixels are background with certainty
    assert scored([heatmap], [mask])["mean_average_precision"] == pytest.approx((2 * 2 / 3 + 3 / 6) / 3)


@pytest.mark.filterwarnings("error")
def test_images_without_labels_or_without_an_object():
    heatmaps, masks = world(3)
    unlabelled = np.full_like(masks[:1], IGNORE)
    assert scored([*heatmaps, heatmaps[0]], [*masks, unlabelled[0]]) == scored(heatmaps, masks)
    assert scored(heatmaps[:1], unlabelled) == {} == scored([], [])
    assert math.isnan(pointing_hit(heatmaps[0], unlabelled[0], 0))
    assert math.isnan(relevance_mass(heatmaps[0], unlabelled[0]))
    empty = np.zeros_like(masks[0])
    found = scored(heatmaps[:1], [empty])
    assert found["mean_f1"] == found["mean_foreground_precision"] == found["mean_best_threshold_iou"] == 0
    assert pointing_hit(heatmaps[0], empty, 99) == 0 == relevance_mass(heatmaps[0], empty)


numbers = st.floats(-50, 50).map(lambda x: round(x, 2))


@given(seeds, st.floats(0.01, 1000), numbers)
def test_scale_and_offset_of_a_map_change_nothing(seed, scale, offset):
    heatmaps, masks = world(seed)
    other = scale * heatmaps + offset
    assert scored(other, masks) == pytest.approx(scored(heatmaps, masks), abs=1e-6)
    for before, after, mask in zip(heatmaps, other, masks, strict=True):
        assert pointing_hit(before, mask, 1) == pointing_hit(after, mask, 1)
        assert relevance_mass(before, mask) == pytest.approx(relevance_mass(after, mask), abs=1e-6)


@given(seeds)
def test_order_copies_and_mirroring_change_nothing(seed):
    heatmaps, masks = world(seed)
    before = pytest.approx(scored(heatmaps, masks))
    assert scored(heatmaps[::-1], masks[::-1]) == before
    assert scored([*heatmaps, *heatmaps], [*masks, *masks]) == before
    assert scored(heatmaps[:, ::-1, ::-1], masks[:, ::-1, ::-1]) == before
    assert scored(heatmaps.astype(np.float32), masks) == pytest.approx(scored(heatmaps, masks), abs=1e-5)


@given(seeds)
def test_a_monotone_change_keeps_what_only_ranks(seed):
    heatmaps, masks = world(seed)
    before, after = scored(heatmaps, masks), scored(np.exp(heatmaps), masks)
    for name in ("mean_foreground_precision", "mean_best_threshold_iou"):
        assert after[name] == pytest.approx(before[name])
    hits = [
        [pointing_hit(h, m, 1) for h, m in zip(x, masks, strict=True)] for x in (heatmaps, np.exp(heatmaps))
    ]
    assert hits[0] == hits[1]


@given(seeds, st.sampled_from([0, 1, 2.5, 15]))
def test_pointing_against_brute_force(seed, tolerance):
    (heatmap,), (mask,) = world(seed, n=1, side=(6, 5))
    heatmap = heatmap.round()  # so there are ties
    best = max(heatmap[y, x] for y, x in np.ndindex(6, 5) if mask[y, x] != IGNORE)
    objects = [p for p in np.ndindex(6, 5) if mask[p] == 1]
    tied = [p for p in np.ndindex(6, 5) if heatmap[p] == best and mask[p] != IGNORE]
    near = [min(math.dist(p, o) for o in objects) <= tolerance for p in tied]
    assert pointing_hit(heatmap, mask, tolerance) == pytest.approx(sum(near) / len(near))


def test_fifteen_pixels_beside_the_object_are_a_hit_and_sixteen_are_not():
    mask, hits = np.zeros((40, 40), np.uint8), {}
    mask[:, 20:] = 1
    for column in (3, 4, 5, 30):
        heatmap = np.zeros((40, 40))
        heatmap[7, column] = 1
        hits[column] = pointing_hit(heatmap, mask, 0), pointing_hit(heatmap, mask, 15)
    assert hits == {3: (0, 0), 4: (0, 0), 5: (0, 1), 30: (1, 1)}


def test_a_constant_map_points_everywhere():
    mask = disc()
    assert pointing_hit(np.zeros(mask.shape), mask, 0) == pytest.approx(mask.mean())
    assert pointing_hit(np.zeros(mask.shape), mask, 15) > 2 * mask.mean()


def test_classes_count_alike_in_pointing():
    hits = np.array([1.0, 1.0, 1.0, 0.0, 0.25, np.nan])
    assert pointing_accuracy(hits, np.array([0, 0, 0, 0, 7, 7])) == pytest.approx((0.75 + 0.25) / 2)
    assert math.isnan(pointing_accuracy(hits[5:], np.array([7])))


def test_mass_by_hand():
    heatmap = np.array([[-1.0, 0.0], [1.0, 3.0]])  # scaled: 0, 1, 2 and 4 quarters
    assert relevance_mass(heatmap, np.array([[1, 1], [1, 0]])) == pytest.approx(3 / 7)
    assert relevance_mass(heatmap, np.array([[0, 0], [1, IGNORE]])) == pytest.approx(2 / 3)


def test_what_is_no_mask_of_this_map_is_refused():
    with pytest.raises(ValueError, match=r"heatmap of \(2, 2\) pixels and a mask of \(1, 2\)"):
        SegmentationScores().add(np.zeros((2, 2)), np.zeros((1, 2), np.uint8))
    with pytest.raises(ValueError, match=r"values 0, 1 and 255, this one \[0 2\]"):
        pointing_hit(np.zeros((1, 2)), np.array([[0, 2]], np.uint8), 0)
