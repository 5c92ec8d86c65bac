import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.pixels.bags import WHOLE_IMAGE, BagRules, BoxRules, build_bags, score_segments, top_concepts
from components.stage import fixed_size_lists, ragged_lists
from tests import reference
from tests.world import column, segment_columns

SIZE = (14, 18)
WIDTH = 6


def unit(stream, n):
    x = stream.standard_normal((n, WIDTH)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rectangles(stream, n, height, width):
    """n random rectangles, some of them nearly equal."""
    masks = np.zeros((n, height, width), bool)
    for i in range(n):
        if i and stream.random() < 0.4:
            masks[i] = masks[stream.integers(i)]
            masks[i, stream.integers(height), stream.integers(width)] = True
            continue
        y, x = stream.integers(height), stream.integers(width)
        masks[i, y : y + 1 + stream.integers(height), x : x + 1 + stream.integers(width)] = True
    return masks


class World:
    """Images of random segments with random embeddings, and their columns."""

    def __init__(self, folder, seed, counts, n_concepts=7):
        stream = np.random.default_rng(seed)
        self.ids = np.arange(len(counts)) * 2
        sizes = [(SIZE[0] + i, SIZE[1] + 2 * i) for i in range(len(counts))]
        self.masks = [rectangles(stream, n, *size) for n, size in zip(counts, sizes, strict=True)]
        self.vectors = [unit(stream, n) for n in counts]
        self.images, self.texts = unit(stream, len(counts)), unit(stream, n_concepts)
        self.store(folder / "s")
        lists = ragged_lists(fixed_size_lists(np.concatenate(self.vectors)), list(counts))
        self.embeddings = column(folder / "e", [pa.table({"image_id": self.ids, "embedding": lists})])

    def store(self, folder):
        table = pa.table({"image_id": self.ids, **segment_columns(self.masks)})
        self.segments = column(folder, [table])

    def bags(self, rules, ids=None):
        ids = self.ids if ids is None else ids
        images = self.images[np.searchsorted(self.ids, ids)]
        return build_bags(ids, self.segments, self.embeddings, images, self.texts, rules)

    def expected(self, rules):
        rows = zip(self.masks, self.vectors, self.images, strict=True)
        return [reference.bag(masks, vectors, image, self.texts, rules) for masks, vectors, image in rows]


def rules(**changes):
    free = {"k_top": 99, "tau_min_pixels": 0.0, "rho_max": 1.0, "tau_iou": 1.0, "bag_size": 20}
    return BagRules(**{**free, "pixel_frame": "224", **changes})


def check(bags, expected):
    for row, members in enumerate(expected):
        n = len(members)
        np.testing.assert_array_equal(bags.valid[row], np.arange(bags.valid.shape[1]) < n)
        np.testing.assert_array_equal(bags.segments[row, :n], [m.segment for m in members])
        np.testing.assert_array_equal(bags.concepts[row, :n], [m.concept for m in members])
        np.testing.assert_allclose(bags.scores[row, :n], [m.score for m in members], atol=1e-6)
        np.testing.assert_allclose(bags.areas[row, :n], [m.share for m in members], rtol=1e-6)
        assert bags.fallback[row] == (members[0].segment == WHOLE_IMAGE)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    chosen=st.builds(
        BagRules,
        k_top=st.integers(1, 9),
        tau_min_pixels=st.sampled_from([0.0, 20.0, 2000.0, 8000.0]),
        rho_max=st.sampled_from([0.05, 0.3, 0.6, 1.0]),
        tau_iou=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
        bag_size=st.integers(1, 8),
        pixel_frame=st.sampled_from(["224", "native"]),
    ),
)
def test_bags_against_the_slow_reference(tmp_path_factory, seed, counts, chosen):
    world = World(tmp_path_factory.mktemp("bags"), seed, counts)
    check(world.bags(chosen), world.expected(chosen))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("bags"), 5, [9, 0, 12, 1])


def test_every_bag_obeys_the_rules(world):
    strict = rules(tau_min_pixels=3000.0, rho_max=0.5, tau_iou=0.3, bag_size=4, k_top=3)
    bags = world.bags(strict)
    allowed = np.argsort(-(world.images @ world.texts.T), axis=1)[:, :3]
    for row, masks in enumerate(world.masks):
        kept = [i for i in bags.segments[row][bags.valid[row]] if i != WHOLE_IMAGE]
        assert all(3000 / 224**2 <= masks[i].mean() <= 0.5 for i in kept)
        assert all(reference.iou(masks[i], masks[j]) <= 0.3 for i in kept for j in kept if i != j)
        assert (np.diff(bags.scores[row, : len(kept)]) <= 0).all()
        if kept:
            assert np.isin(bags.concepts[row, : len(kept)], allowed[row]).all()


def test_of_two_masks_that_overlap_the_better_scored_stays(tmp_path):
    world = World(tmp_path, 0, [2])
    world.masks[0][1] = world.masks[0][0]
    world.store(tmp_path / "equal")
    best = int((world.vectors[0] @ world.texts.T).max(axis=1).argmax())
    bags = world.bags(rules(tau_iou=0.99))
    assert bags.valid.sum() == 1
    assert bags.segments[0, 0] == best
    assert world.bags(rules(tau_iou=1.0)).valid.sum() == 2


def test_limits_are_inclusive(tmp_path):
    """0.94 x 5 x 10 is below 47 in floating point: the share decides, not the product."""
    assert 0.94 * 5 * 10 < 47
    world = World(tmp_path, 0, [1])
    mask = np.zeros((1, 5, 10), bool)
    mask.reshape(-1)[:47] = True
    world.masks = [mask]
    world.store(tmp_path / "one")
    assert not world.bags(rules(rho_max=0.94, tau_min_pixels=47, pixel_frame="native")).fallback[0]
    assert world.bags(rules(rho_max=0.9399)).fallback[0]
    assert world.bags(rules(tau_min_pixels=47.5, pixel_frame="native")).fallback[0]
    assert not world.bags(rules(tau_min_pixels=0.94 * 224**2 - 1)).fallback[0]
    assert world.bags(rules(tau_min_pixels=0.94 * 224**2 + 1)).fallback[0]


def test_images_without_any_segment_fall_back_to_the_whole(tmp_path):
    bags = World(tmp_path, 0, [0, 0]).bags(rules(bag_size=3))
    assert bags.fallback.all()
    np.testing.assert_array_equal(bags.valid, [[True, False, False]] * 2)
    np.testing.assert_array_equal(bags.areas[:, 0], 1)


def test_bags_do_not_depend_on_the_order_of_ids_or_on_company(world):
    whole, alone = world.bags(rules()), world.bags(rules(), world.ids[[2, 0]])
    for name in ("segments", "concepts", "valid", "areas"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(whole, name)[[2, 0]])
    assert world.bags(rules(), world.ids[:0]).valid.shape == (0, 20)


def test_vectors_are_gathered_to_their_segments(world):
    bags = world.bags(rules(rho_max=0.6, bag_size=5))
    counts = np.array([len(v) for v in world.vectors])
    gathered = bags.gather(np.concatenate(world.vectors), counts, world.images)
    for row in range(len(world.ids)):
        for position in range(5):
            i = bags.segments[row, position]
            whole = world.images[row] if position == 0 else np.zeros(WIDTH)
            expected = whole if i == WHOLE_IMAGE else world.vectors[row][i]
            np.testing.assert_array_equal(gathered[row, position], expected)


def test_top_concepts_and_scores_break_ties_by_index():
    similarities = np.array([[0.1, 0.5, 0.5, 0.2]], np.float32)
    assert top_concepts(similarities, 2).tolist() == [[1, 2]]
    assert top_concepts(similarities, 9).tolist() == [[1, 2, 3, 0]]
    concepts, scores = score_segments(np.array([[9, 0.2, 0.3, 8]], np.float32), np.array([[1, 2]]))
    assert (concepts.tolist(), scores.round(6).tolist()) == ([2], [pytest.approx(0.3)])


class DetectedWorld(World):
    """Images whose segments come from a detector: with concepts, ranks and scores of their own."""

    def __init__(self, folder, seed, counts):
        stream = np.random.default_rng(seed)
        self.found = []
        super().__init__(folder, seed, counts)
        for masks in self.masks:
            ranks = stream.integers(0, 4, len(masks))
            scores = stream.permutation(len(masks)).astype(np.float32) / 10
            self.found.append(
                [
                    reference.Detected(m, 6 - int(r), int(r), float(s))
                    for m, r, s in zip(masks, ranks, scores, strict=True)
                ]
            )
        table = pa.table({"image_id": self.ids, **segment_columns(self.masks)})
        for name, dtype in (("concept", pa.int64()), ("rank", pa.int64()), ("score", pa.float32())):
            values = [[getattr(segment, name) for segment in found] for found in self.found]
            table = table.append_column(name, pa.array(values, pa.list_(dtype)))
        self.segments = column(folder / "detected", [table])


box_rules = st.builds(
    BoxRules,
    k_top=st.integers(1, 5),
    threshold=st.sampled_from([0.0, 0.2, 0.5]),
    per_concept=st.integers(1, 3),
)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    boxes=box_rules,
    tau_min_pixels=st.sampled_from([0.0, 2000.0]),
    tau_iou=st.sampled_from([0.0, 0.3, 0.8]),
    bag_size=st.integers(1, 5),
)
def test_segments_of_a_detector_keep_its_concepts_and_scores(tmp_path_factory, seed, counts, boxes, **knobs):
    world = DetectedWorld(tmp_path_factory.mktemp("bags"), seed, counts)
    chosen = rules(boxes=boxes, rho_max=0.9, merge="mean", **knobs)
    bags = world.bags(chosen)
    vectors, per_image = np.concatenate(world.vectors), np.array(counts)
    gathered = bags.gather(vectors, per_image, world.images)
    for row, found in enumerate(world.found):
        groups = reference.detected_groups(found, chosen)
        kept = [group[0] for group in groups]
        if not groups:
            assert bags.fallback[row]
            continue
        n = len(kept)
        assert bags.segments[row][bags.valid[row]].tolist() == kept
        assert bags.concepts[row, :n].tolist() == [found[i].concept for i in kept]
        np.testing.assert_allclose(bags.scores[row, :n], [found[i].score for i in kept], rtol=1e-6)
        for place, group in enumerate(groups):
            areas = np.array([found[i].mask.sum() for i in group], np.float64)
            expected = (areas[:, None] * world.vectors[row][group].astype(np.float64)).sum(0) / areas.sum()
            np.testing.assert_allclose(gathered[row, place], expected, atol=1e-6)


def test_keeping_and_averaging_differ_only_where_masks_overlap(tmp_path):
    world = World(tmp_path, 0, [2])
    world.masks[0][1] = world.masks[0][0]
    world.store(tmp_path / "equal")
    vectors, counts = np.concatenate(world.vectors), np.array([2])
    kept, mean = (world.bags(rules(tau_iou=0.5, merge=merge)) for merge in ("keep", "mean"))
    best = kept.segments[0, 0]
    np.testing.assert_array_equal(kept.gather(vectors, counts, world.images)[0, 0], vectors[best])
    np.testing.assert_allclose(mean.gather(vectors, counts, world.images)[0, 0], vectors.mean(0), atol=1e-7)
    apart = [
        world.bags(rules(merge=merge)).gather(vectors, counts, world.images) for merge in ("keep", "mean")
    ]
    np.testing.assert_array_equal(*apart)
