"""What the detector is taught, against the drawn truth."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.measure import regionprops

from components.data.generators.toybirds import PARTS
from components.identity import rng
from components.models.segmentation.grounding_dino.prompts import prompts
from components.toybirds.clip.views import part_name
from components.toybirds.detector.architecture import processor
from components.toybirds.detector.dense import said
from components.toybirds.detector.prompts import BIRD, UNKNOWN, ask, choose, true_boxes
from components.toybirds.detector.training import Lessons, mirror

FOLDER = Path(__file__).parents[4] / "datasets" / "toybirds"
SIZE = 64


@pytest.fixture(scope="module")
def birds(drawn_birds):
    return drawn_birds(seed=97, n=40)


@pytest.fixture(scope="module")
def concepts():
    return [*(FOLDER / "concepts.txt").read_text(encoding="utf-8").splitlines(), BIRD]


@pytest.fixture(scope="module")
def tokenizer(concepts):
    return processor(concepts).tokenizer


def regions(parts):
    """By part: x0 y0 x1 y1 as scikit-image finds them."""
    return {PARTS[r.label - 1]: np.array(r.bbox)[[1, 0, 3, 2]] for r in regionprops(parts)}


def test_boxes_are_those_of_the_parts_and_the_background_is_everywhere(birds, concepts):
    for parts, shown, boxes in zip(birds.parts, birds.shown, true_boxes(birds), strict=True):
        expected = {shown[part]: box for part, box in regions(parts).items()}
        expected[BIRD] = regions((parts > 0).astype(np.uint8) * 1)["beak"]  # label 1
        expected[shown["background"]] = np.array([0, 0, SIZE, SIZE])
        assert boxes.keys() == expected.keys()
        assert boxes.keys() <= set(concepts)
        for phrase, box in boxes.items():
            np.testing.assert_array_equal(box, expected[phrase])


def test_a_mirrored_box_is_the_box_of_the_mirrored_part(birds):
    mirrored = true_boxes(birds.select(np.arange(5)))
    for parts, shown, boxes in zip(birds.parts, birds.shown, mirrored, strict=False):
        for part, box in regions(np.ascontiguousarray(parts[:, ::-1])).items():
            np.testing.assert_array_equal(mirror(boxes[shown[part]], SIZE), box)


def test_a_cell_says_what_any_of_its_pixels_shows(birds, concepts):
    few = birds.select(np.arange(3))
    true = said(torch.from_numpy(few.parts), Lessons.of(few, concepts).shown, 16)
    for i, (parts, shown) in enumerate(zip(few.parts, few.shown, strict=True)):
        for y, x in np.ndindex(16, 16):
            here = {part_name(k) for k in np.unique(parts[4 * y : 4 * y + 4, 4 * x : 4 * x + 4])}
            phrases = {shown[name] for name in here} | ({BIRD} if here != {"background"} else set())
            assert {concepts[k] for k in true[i, :, y, x].nonzero()[:, 0]} == phrases


def test_texts_and_their_words_are_those_that_the_product_asks(birds, concepts, tokenizer):
    """The product finds the tokens of a concept in the text that training asked, and training marked them."""
    few = birds.select(np.arange(6))
    asked = ask(tokenizer, [concepts] * 6, true_boxes(few), SIZE)
    (prompt,) = prompts(concepts, tokenizer, len(concepts), 96)
    coded = tokenizer([prompt.text], return_offsets_mapping=True, return_tensors="np")
    assert asked.texts["input_ids"][0].tolist() == coded["input_ids"][0].tolist()
    tokens = prompt.tokens(coded["offset_mapping"][0])
    for i, true in enumerate(true_boxes(few)):
        named = [k for k, concept in enumerate(concepts) if concept in true]
        np.testing.assert_array_equal(asked.words[i].numpy(), np.stack([tokens[k] for k in named]))
        for k, marked in zip(named, asked.words[i], strict=True):  # its words, no [CLS], no full stop
            words = tokenizer.convert_ids_to_tokens(asked.texts["input_ids"][i][marked].tolist())
            assert words == concepts[k].split()
        centre, size = (SIZE * asked.boxes[i]).split(2, dim=1)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        np.testing.assert_allclose(corners, np.stack([true[concepts[k]] for k in named]), atol=1e-4)


def test_a_phrase_that_is_not_true_is_found_nowhere(birds, tokenizer):
    few = birds.select(np.arange(2))
    false = "flat beak" if few.shown[0]["beak"] == "pointed beak" else "pointed beak"
    asked = ask(tokenizer, [[false], [UNKNOWN, BIRD]], true_boxes(few), SIZE)
    assert [len(boxes) for boxes in asked.boxes] == [0, 1]
    unknown = tokenizer.convert_tokens_to_ids("[UNK]")
    assert asked.texts["input_ids"][1].tolist()[1:3] == [unknown] * len(UNKNOWN.split())


def test_every_phrase_is_asked_alone_in_pairs_and_together(concepts):
    random = rng(0, "asked")
    phrases = [*concepts, UNKNOWN]
    asked = [several for _ in range(200) for several in choose(random, phrases, 4)]
    alone = [several[0] for several in asked if len(several) == 1]
    assert set(alone) == set(phrases)
    pairs = [several for several in asked if len(several) == 2]
    assert pairs
    assert all(a != b and a.split()[-1] == b.split()[-1] for a, b in pairs)
    assert any(several == phrases for several in asked)
    assert all(len(set(several)) == len(several) for several in asked)
