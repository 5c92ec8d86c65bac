"""Concepts of segments against masks of parts, pixel by pixel and pair by pair."""

import numpy as np
import pytest
from PIL import Image

from components.data.card import load_card
from components.data.columns import Data
from components.data.images import ImageIndex
from components.pixels.bags import WHOLE_IMAGE
from components.studies.seg_mil.concept_truth import ConceptTruth, concept_auc, concept_truth
from tests.planted_bags import CONCEPTS, bags_of
from tests.world import column, segment_columns

CARD = load_card("toybirds")
NAMES = CARD.vocabulary()
SIDE, IMAGES, SEGMENTS = 12, 5, 4
IGNORE = 255


@pytest.fixture
def world(tmp_path):
    """Parts in random columns, segments random boxes; image 2 has no mask of parts, of image 3 a corner counts
    nowhere, and the bag of image 4 is the whole image."""
    import pyarrow as pa

    stream = np.random.default_rng(4)
    masks, parts = [], []
    for image in range(IMAGES):
        rows, columns = np.mgrid[:SIDE, :SIDE]
        boxes = stream.integers(0, SIDE // 2, (SEGMENTS, 4))
        masks.append(
            np.stack(
                [
                    (rows >= t) & (rows < t + h + 1) & (columns >= left) & (columns < left + w + 1)
                    for t, left, h, w in boxes
                ]
            )
        )
        of_image = np.repeat(stream.integers(0, len(CARD.parts) + 1, 2), SIDE // 2)[None] * np.ones((SIDE, 1))
        if image == 3:
            of_image[:4, :4] = IGNORE
        parts.append(of_image.astype(np.uint8))
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / f"{image}.png")
        if image != 2:
            (tmp_path / "parts").mkdir(exist_ok=True)
            Image.fromarray(parts[-1]).save(tmp_path / f"parts/{image}.png")
    kinds = {"beak": ("flat", "pointed"), "neck": ("long", "short"), "tail": ("long", "short")}
    kinds |= {"feet": ("webbed", "clawed"), "stripe": ("True", "False"), "crest": ("True", "False")}
    kinds |= {"colour": ("brown", "blue"), "background": ("grass", "water")}
    drawn = [{name: stream.choice(values) for name, values in kinds.items()} for _ in range(IMAGES)]
    lines = [
        ",".join(["img_id", *kinds]),
        *(",".join([str(3 * i), *one.values()]) for i, one in enumerate(drawn)),
    ]
    (tmp_path / "attributes.csv").write_text("\n".join(lines) + "\n")
    zeros, ids = np.zeros(IMAGES, np.int64), 3 * np.arange(IMAGES)
    paths = np.array([f"{i}.png" for i in range(IMAGES)], object)
    index = ImageIndex(
        tmp_path, ids, paths, zeros, zeros, np.full(IMAGES, "test", object), CARD.classes, ("a",),
        part_masks="parts/{stem}.png",
    )  # fmt: skip
    table = pa.table({"image_id": ids, **segment_columns(masks)})
    data = Data(CARD, index, {"segments": column(tmp_path / "segments", [table])})
    bags = bags_of(np.zeros((IMAGES, 3, 2)), [3, 2, 3, 3, 1], zeros)
    bags.bags.segments[:4] = np.array([[2, 0, 3], [1, 3, -1], [0, 1, 2], [3, 2, 1]])
    bags.bags.segments[4, 0] = WHOLE_IMAGE
    return data, bags.bags, masks, parts, drawn


def says(concept, drawn):
    """The part that a concept is of, and whether the image shows it, word by word."""
    *first, last = concept.split()
    if concept in ("crest", "head"):
        return concept, concept == "head" or drawn["crest"] == "True"
    if last == "wing":
        return last, (drawn["stripe"] == "True") == (first == ["striped"])
    if last == "body":
        return last, [drawn["colour"]] == first
    return (last, [drawn[last]] == first) if first else (None, drawn["background"] == last)


def test_a_segment_shows_the_concept_of_the_part_on_which_half_of_it_lies(world):
    data, bags, masks, parts, drawn = world
    truth = concept_truth(data, bags, "concepts")
    assert truth.concepts.tolist() == [name != "fog" for name in NAMES]
    seen = 0
    for i in range(IMAGES):
        for place in range(3):
            known = bool(bags.valid[i, place]) and i != 2
            assert truth.known[i, place] == known
            segment = int(bags.segments[i, place])
            mask = np.ones((SIDE, SIDE), bool) if segment == WHOLE_IMAGE else masks[i][segment]
            for k, name in enumerate(NAMES):
                if name == "fog":
                    continue
                part, shows = says(name, drawn[i])
                number = CARD.parts.index(part) + 1 if part else 0
                counted = mask & (parts[i] != IGNORE)
                on = (counted & (parts[i] == number)).sum()
                expected = known and shows and on > 0 and on >= counted.sum() / 2
                assert truth.shown[i, place, k] == expected, (i, place, name)
                seen += expected
    assert seen > 5


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    stream = np.random.default_rng(0)
    known = stream.random((6, 4)) < 0.8
    shown = (stream.random((6, 4, 3)) < 0.4) & known[..., None]
    shown[..., 2] = False
    scores = np.round(stream.standard_normal((6, 4, 3)), 1)
    scores[~known] = 100
    truth = ConceptTruth(shown, known, np.array([True, True, True]))
    metrics = {m.group: m.value for m in concept_auc("auc", scores, truth, ("a", "b", "c"), "test")}
    for k, name in enumerate("ab"):
        yes, no = scores[shown[..., k], k], scores[known & ~shown[..., k], k]
        pairs = [(y > n) + 0.5 * (y == n) for y in yes for n in no]
        assert metrics[name] == pytest.approx(np.mean(pairs))
    assert metrics["all"] == pytest.approx((metrics["a"] + metrics["b"]) / 2)
    assert set(metrics) == {"all", "a", "b"}
    unknown = ConceptTruth(shown, known, np.zeros(3, bool))
    assert concept_auc("auc", scores, unknown, ("a", "b", "c"), "test") == []


def test_a_data_set_that_does_not_say_has_no_truth(world):
    data, bags, *_ = world
    bare = Data(CARD.model_copy(update={"shows": None}), data.index, {"segments": data["segments"]})
    truth = concept_truth(bare, bags, "concepts")
    assert not truth.concepts.any()
    assert truth.shown.shape == (IMAGES, 3, CONCEPTS)
