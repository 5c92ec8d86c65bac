"""Against the library's own processor, model and post-processing, one image and one prompt at a time."""

import dataclasses
import socket

import numpy as np
import pytest
import torch

from components.data.images import decode
from components.models.segmentation.detector import Question
from components.models.segmentation.grounding_dino import model as module
from components.models.segmentation.grounding_dino.prompts import prompts
from tests.tiny_grounding_dino import CONCEPTS, LONGEST, MAX_TEXT_LENGTH, SHORTEST, THRESHOLD, noise


@pytest.fixture(scope="module")
def photographs(test_data):
    paths = sorted((test_data("seg-mini") / "images").iterdir())[:4]
    return [*(decode(path) for path in paths[:3]), decode(paths[3])[:90, :260]]


def forward(library, image, text):
    model, processor = library
    inputs = processor(
        images=image.copy(),
        text=text,
        return_tensors="pt",
        size={"shortest_edge": SHORTEST, "longest_edge": LONGEST},
        pad_size={"height": LONGEST, "width": LONGEST},
        input_data_format="channels_last",
    )
    with torch.inference_mode():
        return model(**inputs), inputs


def library_boxes(library, image, text):
    """Scores and boxes inside the image, best first."""
    output, inputs = forward(library, image, text)
    found = library[1].post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=THRESHOLD, target_sizes=[image.shape[:2]]
    )[0]
    order = found["scores"].argsort(descending=True)
    height, width = image.shape[:2]
    corners = found["boxes"][order].numpy().clip(0, [width, height, width, height])
    return found["scores"][order].numpy(), corners


def of_concept(detections, concept):
    kept = detections.concepts == concept
    return detections.scores[kept], detections.boxes[kept]


def check_against_library(library, questions, answers):
    counts = []
    for question, detections in zip(questions, answers.detections, strict=True):
        assert [detections.boxes.dtype, detections.scores.dtype] == [np.float32] * 2
        assert (np.diff(detections.concepts) >= 0).all()
        for place, concept in enumerate(question.concepts):
            text = concept.lower().removesuffix(".") + "."
            scores, boxes = library_boxes(library, question.image, text)
            np.testing.assert_allclose(of_concept(detections, place)[0], scores, atol=1e-5)
            np.testing.assert_allclose(of_concept(detections, place)[1], boxes, atol=0.05)
            counts.append(len(scores))
    return counts


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_photographs_against_the_library(library, detect, photographs, monkeypatch, at_once):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    questions = [Question(image, CONCEPTS[start:]) for start, image in enumerate(photographs)]
    answers = detect(questions)
    counts = check_against_library(library, questions, answers)
    assert answers.model_inputs == len(counts) == 7 + 6 + 5 + 4
    assert np.mean([0 < count < 12 for count in counts]) > 0.8


def test_the_company_of_other_images_and_concepts_changes_nothing(detect, photographs):
    sizes = (noise(200, 30), *photographs, noise(20, 20))
    together = detect([Question(image, CONCEPTS) for image in sizes]).detections
    for image, beside in zip(sizes, together, strict=True):
        (alone,) = detect([Question(image, CONCEPTS)]).detections
        np.testing.assert_array_equal(alone.concepts, beside.concepts)
        np.testing.assert_allclose(alone.scores, beside.scores, atol=1e-5)
        np.testing.assert_allclose(alone.boxes, beside.boxes, atol=0.05)
        (reversed_,) = detect([Question(image, CONCEPTS[::-1])]).detections
        for place in range(len(CONCEPTS)):
            mirrored = of_concept(reversed_, len(CONCEPTS) - 1 - place)
            np.testing.assert_allclose(of_concept(alone, place)[0], mirrored[0], atol=1e-5)


def test_the_image_backbone_sees_an_image_once(detect, monkeypatch):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 2)
    seen = []

    def count(layer, arguments, output):
        if type(layer).__name__ == "SwinBackbone":
            seen.append(len(arguments[0]))

    handle = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        answers = detect([Question(noise(50, 60), CONCEPTS), Question(noise(60, 50), CONCEPTS[:3])])
    finally:
        handle.remove()
    assert (answers.model_inputs, seen) == (10, [1, 1])


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 5), (1, 3), (40, 900), (900, 40), (30, 97), (97, 30), (1, 300), (300, 1)]
)
def test_odd_sizes(everything, library, size):
    """Those that the library itself takes are compared with it; (30, 97) is longer than it allows itself to pad."""
    image = noise(*size)
    (found,) = everything.load("cpu")([Question(image, ("red wing",))]).detections
    assert len(found.boxes) == 12
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [size[1], size[0]] * 2).all()
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
    if 97 in size or 300 in size:
        return
    kept = found.scores > THRESHOLD
    scores, boxes = library_boxes(library, image, "red wing.")
    np.testing.assert_allclose(found.scores[kept], scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes[kept], boxes, atol=0.05)


# Packed prompts: positions of the tokens of each concept, counted by hand.
PACKED = [
    (("red wing", "red beak"), "red wing. red beak.", ([1, 2], [4, 5])),
    (("red", "red wing", "wing"), "red. red wing. wing.", ([1], [3, 4], [6])),
    (("Red WING ", "wings"), "red wing. wings.", ([1, 2], [4])),
    (("st. cat", "white-breasted"), "st. cat. white-breasted.", ([1, 2, 3], [5, 6, 7])),
    (("cats", "tail.", "a"), "cats. tail. a.", ([1, 2], [4], [6])),  # cat ##s
    (("beak", "beak"), "beak. beak.", ([1], [3])),
]


@pytest.mark.parametrize(("concepts", "text", "tokens"), PACKED, ids=[case[1] for case in PACKED])
def test_packed_concepts_have_their_own_tokens_scores(
    library, everything, photographs, concepts, text, tokens
):
    packed = dataclasses.replace(everything, concepts_per_prompt=3).load("cpu")
    answers = packed([Question(image, concepts) for image in photographs[:2]])
    assert answers.model_inputs == 2
    for image, detections in zip(photographs, answers.detections, strict=False):
        output, _ = forward(library, image, text)
        by_token = output.logits[0].sigmoid().numpy()
        for place, positions in enumerate(tokens):
            expected = np.sort(by_token[:, positions].max(axis=1))[::-1]
            np.testing.assert_allclose(of_concept(detections, place)[0], expected, atol=1e-5)


def test_concepts_that_share_a_word_stay_apart(everything, photographs):
    packed = dataclasses.replace(everything, concepts_per_prompt=2).load("cpu")
    (found,) = packed([Question(photographs[0], ("red wing", "red beak"))]).detections
    assert np.bincount(found.concepts).tolist() == [12, 12]
    assert np.abs(of_concept(found, 0)[0] - of_concept(found, 1)[0]).max() > 0.01


def test_a_lone_concept_is_exact_in_packed_mode_too(knobs, detect, photographs):
    packed = dataclasses.replace(knobs, concepts_per_prompt=4).load("cpu")
    for concept in CONCEPTS:
        question = Question(photographs[0], (concept,))
        for exact, found in zip(detect([question]).detections, packed([question]).detections, strict=True):
            np.testing.assert_array_equal(exact.scores, found.scores)
            np.testing.assert_array_equal(exact.boxes, found.boxes)


def test_packing_is_approximate(everything, photographs):
    """Mean absolute difference of the sorted scores of a pair; the weights are random."""
    questions = [Question(image, CONCEPTS) for image in photographs]
    exact = everything.load("cpu")(questions)
    packed = dataclasses.replace(everything, concepts_per_prompt=3).load("cpu")(questions)
    assert (exact.model_inputs, packed.model_inputs) == (7 * 4, 3 * 4)
    pairs = zip(exact.detections, packed.detections, strict=True)
    deviation = np.mean([np.abs(a.scores - b.scores).mean() for a, b in pairs])
    assert 1e-3 < deviation < 1


@pytest.fixture(scope="module")
def tokenizer(library):
    return library[1].tokenizer


def test_packing_fills_prompts_in_order_and_never_past_the_limit(tokenizer):
    concepts = [" ".join(["red"] * length) for length in (5, 9, 1, 1, 20, 27, 28, 1, 29)]
    found = prompts(concepts, tokenizer, 4, MAX_TEXT_LENGTH)
    assert [prompt.concepts for prompt in found] == [[0, 1, 2, 3], [4], [5], [6], [7], [8]]
    for prompt in found:
        inside = tokenizer(prompt.text, return_offsets_mapping=True)
        assert len(inside["input_ids"]) <= MAX_TEXT_LENGTH
    assert [p.concepts for p in prompts(concepts[:4], tokenizer, 3, MAX_TEXT_LENGTH)] == [[0, 1, 2], [3]]
    assert [p.concepts for p in prompts(concepts[:4], tokenizer, 9, 17)] == [[0], [1, 2, 3]]


def test_a_prompt_is_written_as_the_library_writes_labels(tokenizer):
    from transformers.models.grounding_dino.processing_grounding_dino import _merge_candidate_labels_text

    concepts = ["White BEAK", " red wing ", "cat"]
    (found,) = prompts(concepts, tokenizer, 3, MAX_TEXT_LENGTH)
    assert found.text == _merge_candidate_labels_text(concepts)
    assert prompts(["St. Bernard."], tokenizer, 3, MAX_TEXT_LENGTH)[0].text == "st. bernard."


def test_tokens_of_a_packed_concept_are_those_of_the_concept_alone(tokenizer):
    stream = np.random.default_rng(3)
    letters = np.array(list("abcRED wing-.'#?,é0 "))
    concepts = ["".join(stream.choice(letters, stream.integers(1, 9))) + "x" for _ in range(200)]
    for prompt in prompts(concepts, tokenizer, 5, 60):
        encoded = tokenizer(prompt.text, return_offsets_mapping=True, return_tensors="np")
        ids = encoded["input_ids"][0]
        assert len(prompt.concepts) > 1
        for place, tokens in zip(prompt.concepts, prompt.tokens(encoded["offset_mapping"][0]), strict=True):
            alone = tokenizer(concepts[place], add_special_tokens=False)["input_ids"]
            assert ids[tokens].tolist() == alone


def test_no_concepts_no_boxes_no_pass(detect):
    answers = detect([Question(noise(30, 40), ()), Question(noise(30, 40), ())])
    assert answers.model_inputs == 0
    for found in answers.detections:
        assert (found.boxes.shape, found.concepts.shape, found.scores.shape) == ((0, 4), (0,), (0,))
        assert (found.boxes.dtype, found.concepts.dtype) == (np.float32, np.int64)
    answers = detect([Question(noise(30, 40), ()), Question(noise(30, 40), ("red",))])
    assert (answers.model_inputs, len(answers.detections[0].scores)) == (1, 0)


def test_the_longest_concept_that_fits_and_the_one_that_does_not(detect):
    words = MAX_TEXT_LENGTH - 3  # [CLS], the full stop, [SEP]
    assert detect([Question(noise(30, 40), (" ".join(["red"] * words),))]).model_inputs == 1
    too_long = "beak " + " ".join(["red"] * words)
    with pytest.raises(ValueError, match=r"'beak red red.* 30 tokens, more than the 29"):
        detect([Question(noise(30, 40), ("red", too_long))])


@pytest.mark.parametrize("concept", ["", " ", ".", "...", "\n", "\u200b"])
def test_a_concept_without_text_is_refused(detect, concept):
    with pytest.raises(ValueError, match="is empty"):
        detect([Question(noise(30, 40), ("red", concept))])


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_is_the_librarys_own_under_autocast(
    library, knobs, photographs, precision, dtype, monkeypatch
):
    monkeypatch.setattr(
        module, "PAIRS_AT_ONCE", 1
    )  # in bf16 the shape of a batch can change which queries win
    half = dataclasses.replace(knobs, precision=precision).load("cpu")
    questions = [Question(image, ("red wing", "water")) for image in photographs[:2]]
    with torch.autocast("cpu", dtype):
        expected = [library_boxes(library, q.image, f"{c}.") for q in questions for c in q.concepts]
    found = [of_concept(d, place) for d in half(questions).detections for place in range(2)]
    for (scores, boxes), (expected_scores, expected_boxes) in zip(found, expected, strict=True):
        assert scores.dtype == boxes.dtype == np.float32
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
        np.testing.assert_allclose(boxes, expected_boxes, atol=0.05)


def test_loading_and_detecting_reach_for_no_network(knobs, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert knobs.load("cpu")([Question(noise(30, 40), ("red",))]).model_inputs == 1
