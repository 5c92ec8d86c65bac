"""Against PyTorch and scipy, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.special import softmax
from torch.nn.functional import interpolate

from components.pixels.places import centres
from components.studies.concept_bottleneck.maps.concept_maps import (
    ConceptHead,
    Rule,
    box_region,
    concept_heatmap,
    global_rules,
    intervene,
    point_region,
    region_activations,
    region_cells,
    region_concepts,
    strongest,
    upsampled,
)

POOLS = [("mean", 1.0), ("softmax", 1.0), ("softmax", 0.3), ("max", 1.0), ("topk", 1.0)]
M, L, G, S = 6, 4, 7, 224
every_pool = pytest.mark.parametrize(("pool", "temperature"), POOLS)
seeds = st.integers(0, 2**32)


def head_of(seed=0, pool="mean", temperature=1.0):
    stream = np.random.default_rng(seed)
    return ConceptHead(
        weight=stream.standard_normal((L, M)),
        bias=stream.standard_normal(L),
        mean=stream.standard_normal(M),
        std=stream.uniform(0.2, 3, M),
        pool=pool,
        temperature=temperature,
    )


def maps_of(seed=0, *leading, grid=G):
    return np.random.default_rng(seed).normal(0.5, 1.5, (*leading, M, grid, grid))


@every_pool
def test_logits_against_torch(pool, temperature):
    head, maps = head_of(1, pool, temperature), maps_of(2, 3)
    c = torch.tensor(maps).flatten(-2)
    pooled = {
        "mean": c.mean(-1),
        "softmax": (torch.softmax(c / temperature, -1) * c).sum(-1),
        "max": c.amax(-1),
        "topk": c.topk(5).values.mean(-1),
    }[pool]
    standardised = (pooled - torch.tensor(head.mean)) / torch.tensor(head.std)
    logits = torch.nn.functional.linear(standardised, torch.tensor(head.weight), torch.tensor(head.bias))
    np.testing.assert_allclose(head.pooled(maps), pooled, rtol=1e-12)
    np.testing.assert_allclose(head.logits(maps), logits, rtol=1e-12, atol=1e-12)


def test_the_mean_of_a_linear_map_is_the_map_of_the_mean():
    """So under mean pooling SALF-CBM and LF-CBM have one form; a resize keeps it where the sizes divide."""
    stream = np.random.default_rng(0)
    layer, features = stream.standard_normal((M, 10)), stream.standard_normal((10, G, G))
    expected = layer @ features.mean((-2, -1))
    off = {
        size: np.abs(head_of().pooled(np.tensordot(layer, upsampled(features, size), 1)) - expected).max()
        for size in (7, 12, 14)
    }
    assert off[7] < 1e-12 > off[14]
    assert 1e-3 < off[12] < 0.3


@every_pool
def test_contributions_and_the_bias_add_up_to_the_logit(pool, temperature):
    head, maps = head_of(3, pool, temperature), maps_of(4, 2)
    for label in range(L):
        total = head.contributions(maps, label).sum(-1) + head.bias[label]
        np.testing.assert_allclose(total, head.logits(maps)[..., label], rtol=0, atol=1e-12)


@every_pool
def test_the_class_map_is_the_logit_spread_over_the_cells(pool, temperature):
    head, maps = head_of(5, pool, temperature), maps_of(6, 2)
    for label in range(L):
        spread = head.class_map(maps, label)
        assert spread.shape == (2, G, G)
        over_cells = spread.mean((-2, -1)) if pool == "mean" else spread.sum((-2, -1))
        np.testing.assert_allclose(over_cells + head.bias[label], head.logits(maps)[:, label], atol=1e-12)


@given(seeds, st.sampled_from([0.1, 1.0, 5.0]))
def test_softmax_pooling_lies_between_mean_and_maximum_and_moves_with_the_map(seed, temperature):
    head, maps = head_of(seed, "softmax", temperature), maps_of(seed)
    pooled = head.pooled(maps)
    assert (maps.mean((-2, -1)) <= pooled + 1e-12).all()
    assert (pooled <= maps.max((-2, -1)) + 1e-12).all()
    np.testing.assert_allclose(head.pooled(maps + 3.7), pooled + 3.7, atol=1e-12)
    np.testing.assert_allclose(head.pooled(np.full_like(maps, 2.5)), 2.5, atol=1e-12)
    assert np.abs(head.pooled(2 * maps) - 2 * pooled).max() > 1e-3  # the scale of a map matters
    np.testing.assert_allclose(head.pooled(1000 * maps), 1000 * maps.max((-2, -1)), rtol=0.01)


@every_pool
def test_the_gradient_of_pooling_against_finite_differences(pool, temperature):
    head, maps, step = head_of(7, pool, temperature), maps_of(8, grid=4), 1e-5
    gradient = head.pooling_gradient(maps)
    for cell in np.ndindex(4, 4):
        nudge = np.zeros((4, 4))
        nudge[cell] = step
        slope = (head.pooled(maps + nudge) - head.pooled(maps - nudge)) / (2 * step)
        np.testing.assert_allclose(gradient[:, *cell], slope, rtol=1e-6, atol=1e-9)
    if pool == "softmax":
        weak = maps < head.pooled(maps)[:, None, None] - temperature
        assert 0 < weak.sum() < weak.size
        np.testing.assert_array_equal(gradient < 0, weak)


def one_concept(grid, pool):
    return ConceptHead(weight=np.ones((1, 1)), bias=np.zeros(1), mean=np.zeros(1), std=np.ones(1), pool=pool)


def test_raising_weak_cells_lowers_the_concept_under_softmax_pooling():
    """The 16 lowest of 144 Gaussian cells, and as many in a block, by 0.5
    (docs/methods/concept_bottlenecks.md, "Region edits")."""
    stream, head, violations = np.random.default_rng(0), one_concept(12, "softmax"), {"lowest": 0, "block": 0}
    for _ in range(300):
        maps = stream.standard_normal((1, 12, 12))
        lowest = maps[0] <= np.sort(maps.ravel())[15]
        y, x = stream.integers(0, 9, 2)
        block = np.zeros((12, 12), bool)
        block[y : y + 4, x : x + 4] = True
        for name, cells in (("lowest", lowest), ("block", block)):
            assert cells.sum() == 16
            done = intervene(head, maps, [0], cells, 0.5, "salf_demo")
            assert done.sign_violations[0] == (done.after[0] < done.before[0])
            violations[name] += int(done.sign_violations[0])
            assert not intervene(one_concept(12, "mean"), maps, [0], cells, 0.5, "salf_demo").sign_violations
    assert violations["lowest"] == 300
    assert violations["block"] <= 6


@every_pool
def test_beta_over_the_whole_image_moves_a_concept_by_exactly_beta(pool, temperature):
    head, maps = head_of(9, pool, temperature), maps_of(10)
    everywhere = np.ones((G, G), bool)
    raw = intervene(head, maps, [1, 4], everywhere, -0.7, "salf_demo")
    np.testing.assert_allclose(
        head.pooled(raw.maps) - head.pooled(maps), [0, -0.7, 0, 0, -0.7, 0], atol=1e-12
    )
    np.testing.assert_allclose(raw.change, -0.7 / head.std[[1, 4]], atol=1e-12)
    standardised = intervene(head, maps, [1, 4], everywhere, -0.7, "standardised")
    np.testing.assert_allclose(standardised.change, [-0.7, -0.7], atol=1e-12)
    for done in (raw, standardised):
        np.testing.assert_allclose(done.after - done.before, head.weight[:, [1, 4]] @ done.change, atol=1e-12)
        assert not done.sign_violations.any()


@given(seeds, st.floats(-3, 3))
def test_under_mean_pooling_a_region_counts_by_its_share(seed, beta):
    head, maps = head_of(seed), maps_of(seed)
    cells = np.random.default_rng(seed).random((G, G)) < 0.3
    done = intervene(head, maps, [2, 0], cells, beta, "standardised")
    np.testing.assert_allclose(done.change, beta * cells.sum() / G**2, atol=1e-12)


@every_pool
@pytest.mark.parametrize("preset", ["salf_demo", "standardised"])
def test_an_intervention_edits_a_copy_once_and_beta_0_edits_nothing(pool, temperature, preset):
    head, maps = head_of(11, pool, temperature), maps_of(12)
    given_maps, cells = maps.copy(), box_region((0, 0, 3, 2), G)
    done = intervene(head, maps, [3], cells, 2.0, preset)
    np.testing.assert_array_equal(maps, given_maps)
    expected = np.zeros_like(maps)
    expected[3, :2, :3] = 2.0 * (1 if preset == "salf_demo" else head.std[3])
    np.testing.assert_allclose(done.maps - maps, expected, atol=1e-12)
    np.testing.assert_array_equal(done.after, head.logits(done.maps))
    nothing = intervene(head, maps, [3], cells, 0.0, preset)
    np.testing.assert_array_equal(nothing.maps, maps)
    np.testing.assert_array_equal(nothing.after, nothing.before)
    assert not nothing.sign_violations.any()


def test_logits_grow_linearly_with_beta_under_mean_pooling_and_convexly_under_softmax():
    """As the demo's logits do: 10.463, 10.561, 10.682 … for beta 0, 0.2, 0.4 …"""
    maps, cells = maps_of(13), box_region((2, 2, 5, 5), G)
    for pool in ("mean", "softmax"):
        head = head_of(14, pool)
        steps = [
            intervene(head, maps, [0], cells, beta, "salf_demo").change[0] for beta in np.arange(0, 2, 0.2)
        ]
        bend = np.diff(steps, 2)
        assert np.abs(bend).max() < 1e-12 if pool == "mean" else bend.min() > 0


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(1, 60))
def test_upsampling_against_torch(seed, height, width, size):
    maps = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    expected = interpolate(torch.tensor(maps), (size, size), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(upsampled(maps, size), expected, atol=1e-9)


@pytest.mark.parametrize(("kind", "radius"), [("stride", 32), ("fit", 32)])
def test_upsampling_at_the_circles_centres_against_scipy(kind, radius):
    middles = centres(G, radius, S, kind)
    maps = maps_of(15)
    inside = np.clip(np.arange(S), middles[0], middles[-1])
    points = np.stack(np.meshgrid(inside, inside, indexing="ij"), axis=-1)
    expected = np.stack([RegularGridInterpolator((middles, middles), one)(points) for one in maps])
    np.testing.assert_allclose(upsampled(maps, S, middles), expected, atol=1e-9)


def test_a_peak_lies_where_its_circle_was_drawn():
    """Without the true centres, it is up to 12 pixels off."""
    middles, worst = centres(G, 32, S, "stride"), 0.0
    for row, column in np.ndindex(G, G):
        one = np.zeros((G, G))
        one[row, column] = 1
        peak = np.unravel_index(upsampled(one, S, middles).argmax(), (S, S))
        drawn = np.array([middles[row], middles[column]])
        beyond = (drawn == middles[0]) | (drawn == middles[-1])  # there the value stays up to the border
        assert (beyond | (peak == drawn)).all()
        default = np.argwhere(upsampled(one, S) == upsampled(one, S).max()).mean(0)
        worst = max(worst, np.abs(default - drawn)[~beyond].max(initial=0))
    assert 7 < worst <= 12


@pytest.mark.parametrize("centering", ["none", "concept_mean"])
def test_the_heatmap_of_a_concept_is_its_map_and_may_be_centred(centering):
    maps = maps_of(16, 2)
    chosen = torch.tensor(maps)[:, 3] - (torch.tensor(maps).mean(1) if centering == "concept_mean" else 0)
    expected = interpolate(chosen[:, None], (S, S), mode="bilinear")[:, 0]
    np.testing.assert_allclose(concept_heatmap(maps, 3, S, centering), expected, atol=1e-9)


def test_the_map_of_a_concept_in_one_quadrant_peaks_there():
    maps = maps_of(17) * 0.1
    maps[2, :3, 4:] += 5
    for middles in (None, centres(G, 32, S, "stride")):
        y, x = np.unravel_index(concept_heatmap(maps, 2, S, "concept_mean", middles).argmax(), (S, S))
        assert y < S / 2 < x


regions = st.tuples(seeds, st.sampled_from([5, 16, 33])).map(
    lambda pair: np.random.default_rng(pair[0]).random((pair[1], pair[1])) < 0.4
)


@given(seeds, regions.filter(np.any), st.booleans())
def test_the_strength_in_a_region_against_maps_that_are_made_large(seed, region, at_circles):
    size = len(region)
    maps = maps_of(seed, 2, grid=4)
    middles = centres(4, 1, size, "stride") if at_circles else None
    large = upsampled(maps, size, middles)[..., region]
    for reduce in ("sum", "mean"):
        expected = getattr(large, reduce)(-1)
        np.testing.assert_allclose(region_activations(maps, region, reduce, middles), expected, atol=1e-9)


def test_a_point_sees_the_value_at_its_pixel():
    maps = maps_of(18)
    region = point_region(200.7, 31.2, S)
    assert np.argwhere(region).tolist() == [[31, 200]]
    np.testing.assert_allclose(region_activations(maps, region), upsampled(maps, S)[:, 31, 200], atol=1e-12)


def test_a_box_holds_the_pixels_whose_middles_it_holds():
    region = box_region((1.0, 0.4, 3.6, 2.5), 5)
    assert np.argwhere(region).tolist() == [[y, x] for y in (0, 1) for x in (1, 2, 3)]
    assert box_region((-9, -9, 99, 99), 5).all()


@given(seeds)
def test_the_whole_image_as_region_orders_concepts_as_the_pooled_ones(seed):
    """Under mean pooling, where the frame is a multiple of the grid."""
    head, maps, everywhere = head_of(seed), maps_of(seed), np.ones((S, S), bool)
    np.testing.assert_allclose(region_activations(maps, everywhere, "mean"), head.pooled(maps), atol=1e-12)
    raw = region_concepts(head, maps, everywhere, M, "none")
    np.testing.assert_array_equal(raw, np.argsort(-head.pooled(maps)))
    np.testing.assert_array_equal(
        region_concepts(head, maps, everywhere, M), np.argsort(-head.concepts(maps))
    )


def test_a_concept_of_large_scale_leads_raw_maps_only():
    """Concept 0 is ten times as large everywhere; concept 1 is there only in the region."""
    maps, region = np.zeros((M, G, G)), box_region((32, 64, 96, 128), S)
    maps[0], maps[1, 2:4, 1:3] = 10, 1
    head = ConceptHead(
        weight=np.ones((L, M)),
        bias=np.zeros(L),
        mean=np.array([10.0, 0.08, 0, 0, 0, 0]),
        std=np.array([10.0, 0.1, 1, 1, 1, 1]),
    )
    assert region_concepts(head, maps, region, 2, "none").tolist() == [0, 1]
    assert region_concepts(head, maps, region, 2)[0] == 1


def test_regions_without_a_pixel_and_points_outside_are_refused():
    with pytest.raises(ValueError, match="no pixel"):
        region_activations(maps_of(19), np.zeros((S, S), bool))
    with pytest.raises(ValueError, match="outside a frame of 224"):
        point_region(3, 224, S)
    with pytest.raises(ValueError, match="never varies"):
        ConceptHead(weight=np.ones((L, M)), bias=np.zeros(L), mean=np.zeros(M), std=np.arange(M))


@pytest.mark.parametrize("grid", [(7, 7), (12, 12), (5, 9)])
def test_cells_of_a_region_against_torch(grid):
    stream = np.random.default_rng(20)
    for _ in range(20):
        region = box_region((*stream.uniform(0, 150, 2), *stream.uniform(150, 224, 2)), S)
        pixels = torch.tensor(region, dtype=torch.float64)[None, None]
        weights = interpolate(pixels, grid, mode="bilinear", antialias=True)[0, 0].numpy()
        sure = (weights == 0) | (weights > 1e-6)
        found = region_cells(region, grid)
        np.testing.assert_array_equal(found[sure], weights[sure] > 0)
        covered = interpolate(pixels, grid, mode="area")[0, 0].numpy() > 0.5
        assert (found >= covered).all()
        assert found.sum() > covered.sum()  # slightly dilated
    assert region_cells(np.ones((S, S), bool), grid).all()
    assert not region_cells(np.zeros((S, S), bool), grid).any()


def test_the_strongest_by_magnitude_and_the_rules():
    contributions = np.array([0.3, -0.9, 0.005, 0.3, -0.006, 0.0])
    assert strongest(contributions).tolist() == [1, 0, 3, 4]
    assert strongest(contributions, k=2).tolist() == [1, 0]
    weight = np.array([[0.0, 0.06, -0.7], [0.05, 0.0, 0.0], [0.0, 0.0, 0.0501]])
    assert global_rules(weight) == [Rule(2, 0, -0.7), Rule(1, 0, 0.06), Rule(2, 2, 0.0501)]
    assert len(global_rules(weight, 0)) == 4
    assert global_rules(np.zeros((2, 3))) == []


@every_pool
def test_a_video_is_its_frames(pool, temperature):
    head, video = head_of(21, pool, temperature), maps_of(22, 5)
    region, cells = box_region((10, 20, 90, 200), S), box_region((0, 0, 4, 4), G)
    together = intervene(head, video, [1, 2], cells, 1.5, "salf_demo")
    for t, frame in enumerate(video):
        alone = intervene(head, frame, [1, 2], cells, 1.5, "salf_demo")
        for name in ("maps", "before", "after", "change", "sign_violations"):
            np.testing.assert_allclose(getattr(together, name)[t], getattr(alone, name), atol=1e-12)
        for function in (
            lambda maps: head.contributions(maps, 2),
            lambda maps: head.class_map(maps, 2),
            lambda maps: concept_heatmap(maps, 1, S, "concept_mean"),
            lambda maps: region_activations(head.standardised(maps), region),
        ):
            np.testing.assert_allclose(function(video)[t], function(frame), atol=1e-12)


def test_more_largest_cells_than_cells_are_all_of_them():
    maps = maps_of(25, grid=2)
    np.testing.assert_allclose(head_of(26, "topk").pooled(maps), maps.mean((-2, -1)), atol=1e-12)


def test_softmax_weights_against_scipy():
    head, maps = head_of(23, "softmax", 0.5), maps_of(24)
    np.testing.assert_allclose(head.cell_weights(maps), softmax(maps / 0.5, axis=(-2, -1)), rtol=1e-12)
