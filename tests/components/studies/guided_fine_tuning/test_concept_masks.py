"""Against brute force on masks and cosines."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from components.data.card import CardError, load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.stage import fixed_size_lists, ragged_lists
from components.studies.guided_fine_tuning import concept_masks
from components.studies.guided_fine_tuning.concept_masks import (
    ConceptRules,
    check_concepts,
    concepts_by_class,
    image_concepts,
)
from tests.world import column, segment_columns

CARD = load_card("toybirds")
SIZE = (14, 18)
CONCEPTS, WIDTH, LISTED = 6, 5, np.array([[1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1]], bool)


def unit(stream, n):
    x = stream.standard_normal((n, WIDTH)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rectangles(stream, n):
    masks = np.zeros((n, *SIZE), bool)
    for mask in masks:
        y, x = stream.integers(SIZE[0]), stream.integers(SIZE[1])
        mask[y : y + 1 + stream.integers(12), x : x + 1 + stream.integers(12)] = True
    return masks


class World:
    """Images of random rectangles, by a detector that found concepts, or with embeddings."""

    def __init__(self, folder, detector, n=12):
        stream = np.random.default_rng(7)
        self.ids, self.labels = 2 * np.arange(n), np.arange(n) % 2
        counts = [int(stream.integers(7)) for _ in range(n)]
        counts[3] = 0
        self.masks = [rectangles(stream, count) for count in counts]
        self.vectors, self.texts, self.images = (
            [unit(stream, count) for count in counts],
            unit(stream, CONCEPTS),
            unit(stream, n),
        )
        self.concepts = [stream.integers(CONCEPTS, size=count) for count in counts]
        self.scores = [stream.random(count).astype(np.float32) for count in counts]
        self.ranks = [stream.integers(5, size=count) for count in counts]
        table = {"image_id": self.ids, **segment_columns(self.masks)}
        found = {"concept": self.concepts, "score": self.scores, "rank": self.ranks}
        if detector:
            table |= {k: ragged_lists(pa.array(np.concatenate(v)), counts) for k, v in found.items()}
        lists = ragged_lists(fixed_size_lists(np.concatenate(self.vectors)), counts)
        columns = {
            "segments": column(folder / "s", [pa.table(table)]),
            "clip_segments": column(folder / "e", [pa.table({"image_id": self.ids, "embedding": lists})]),
            "clip_images": column(
                folder / "i", [pa.table({"image_id": self.ids, "embedding": fixed_size_lists(self.images)})]
            ),
        }
        self.objects = rectangles(stream, n)
        for image_id, mask in zip(self.ids[1:], self.objects[1:], strict=True):  # the first has none
            Image.fromarray(mask).save(folder / f"{image_id}-mask.png")
        paths, splits = np.array([f"{i}.png" for i in self.ids], object), np.full(n, "train", object)
        index = ImageIndex(
            folder, self.ids, paths, self.labels, self.labels, splits, CARD.classes, ("a", "b"),
            "{stem}-mask.png",
        )  # fmt: skip
        tensors = {"clip_texts": {"embedding": self.texts}, "class_concepts": {"listed": LISTED}}
        self.data = Data(CARD, index, columns, tensors)
        self.detector = detector

    def concepts_of(self, image, rules):
        """The concept of each segment of an image, -1 where it does not count."""
        if self.detector:
            counted = (self.ranks[image] < rules.k_top) & (self.scores[image] >= rules.box_threshold)
            return np.where(counted, self.concepts[image], -1)
        allowed = np.argsort(-(self.texts @ self.images[image]), kind="stable")[: rules.k_top]
        return np.array([allowed[np.argmax(self.texts[allowed] @ v)] for v in self.vectors[image]], int)

    def mask(self, image, concept, rules):
        chosen = self.concepts_of(image, rules) == concept
        return self.masks[image][chosen].any(axis=0) if chosen.any() else np.zeros(SIZE, bool)


@pytest.fixture(params=[True, False], ids=["detector", "clip"])
def world(request, tmp_path):
    return World(tmp_path, request.param)


@pytest.mark.parametrize("k_top", [2, 6])
def test_a_mask_is_the_union_of_the_segments_of_its_concepts(world, k_top):
    rules = ConceptRules(k_top, box_threshold=0.3)
    found = image_concepts(world.data, world.ids, rules)
    for image, concepts in enumerate(found):
        for chosen in (LISTED[0], LISTED[1], np.zeros(CONCEPTS, bool), np.ones(CONCEPTS, bool)):
            expected = np.zeros(SIZE, bool)
            for concept in np.flatnonzero(chosen):
                expected |= world.mask(image, concept, rules)
            np.testing.assert_array_equal(concepts.union(chosen), expected)
    shuffled = image_concepts(world.data, world.ids[[4, 1]], rules)
    assert shuffled == [found[4], found[1]]


def test_concepts_that_are_rare_or_beside_the_object_are_dropped(world):
    rules = ConceptRules(CONCEPTS, box_threshold=0.1)
    members = np.arange(1, 12)
    ids, labels = world.ids[members], world.labels[members]
    checks = check_concepts(world.data, ids, labels, rules, 0.2, 0.1, coverage="each")
    for label in (0, 1):
        of_class = members[labels == label]
        for concept in range(CONCEPTS):
            masks = [world.mask(image, concept, rules) for image in of_class]
            overlaps = [
                (mask & world.objects[i]).sum() / (mask | world.objects[i]).sum()
                for mask, i in zip(masks, of_class, strict=True)
                if mask.any()
            ]
            if not LISTED[label, concept]:
                assert not checks.kept[label, concept]
                continue
            occurrence = len(overlaps) / len(of_class)
            assert checks.occurrence[label, concept] == pytest.approx(occurrence)
            if overlaps:
                assert checks.coverage[label, concept] == pytest.approx(np.mean(overlaps))
                assert checks.kept[label, concept] == (occurrence >= 0.2 and np.mean(overlaps) >= 0.1)
    assert 0 < checks.kept.sum() < LISTED.sum()
    loose = check_concepts(world.data, ids, labels, rules, 0.0, 0.0, coverage="each")
    np.testing.assert_array_equal(loose.kept, LISTED)
    np.testing.assert_array_equal(
        loose.coverage, checks.coverage
    )  # for the table, though nothing is dropped by it


@pytest.mark.parametrize("min_occurrence", [0.2, 0.3])
def test_a_class_keeps_its_frequent_concepts_if_their_union_covers_the_object(world, min_occurrence):
    rules = ConceptRules(CONCEPTS, box_threshold=0.1)
    members = np.arange(12)  # the first image has no known object
    for label in (0, 1):
        of_class = members[world.labels == label]
        masks = np.array([[world.mask(image, k, rules) for k in range(CONCEPTS)] for image in of_class])
        frequent = LISTED[label] & (masks.any(axis=(2, 3)).mean(axis=0) >= min_occurrence)
        unions = masks[:, frequent].any(axis=1)
        overlaps = [
            (union & world.objects[image]).sum() / (union | world.objects[image]).sum()
            for union, image in zip(unions, of_class, strict=True)
            if union.any() and image > 0
        ]
        assert frequent.any()
        assert np.mean(overlaps) > 0
        for factor, kept in ((0.999, frequent), (1.001, np.zeros(CONCEPTS, bool))):
            least = factor * np.mean(overlaps)
            checks = check_concepts(world.data, world.ids, world.labels, rules, min_occurrence, least)
            np.testing.assert_array_equal(checks.kept[label], kept)
            np.testing.assert_allclose(checks.coverage[label, frequent], np.mean(overlaps))


def test_the_table_names_every_listed_concept_that_was_checked(world):
    rules = ConceptRules(CONCEPTS, box_threshold=0.1)
    checks = check_concepts(world.data, world.ids[1::2], world.labels[1::2], rules, 0.2, 0.1)
    rows = list(csv.DictReader(io.StringIO(checks.table(CARD.classes, list("abcdef")))))
    assert [row["class"] for row in rows] == ["waterbird"] * 3
    assert [row["concept"] for row in rows] == ["b", "c", "f"]
    assert [row["kept"] for row in rows] == [str(int(kept)) for kept in checks.kept[1, [1, 2, 5]]]


def test_lists_of_classes_are_part_of_a_stage(tmp_path, monkeypatch):
    stage = concepts_by_class(CARD, "concepts")
    assert stage is not None
    listed = stage.compute(Data(CARD, None), "cpu", print)["listed"]
    names = np.array(CARD.vocabulary())
    assert listed.shape == (2, len(names))
    assert set(names[listed[1]]) == {"flat beak", "long neck", "short tail", "webbed feet"}
    assert not (listed[0] & listed[1]).any()
    assert concepts_by_class(CARD, "background") is None
    monkeypatch.setattr(concept_masks, "DATASETS", tmp_path)
    (tmp_path / "toybirds").mkdir()
    path = tmp_path / "toybirds" / "concepts_by_class.yaml"
    for text, problem in (
        ("penguin: [crest]", "penguin"),
        ("landbird: [gills]", "gills"),
        ("[]", "expected"),
    ):
        path.write_text(text)
        with pytest.raises(CardError, match=problem):
            concepts_by_class(CARD, "concepts")
    path.write_text("landbird: [crest]")
    assert [len(listed) for listed in concepts_by_class(CARD, "concepts").concepts] == [1, 0]
