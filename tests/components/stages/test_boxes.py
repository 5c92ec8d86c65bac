"""Which concepts are asked, and what is stored of the boxes."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from components.data.card import load_card
from components.data.columns import ragged_vectors
from components.data.images import decode
from components.data.readers.waterbirds_csv import WaterbirdsCsv
from components.identity import configuration, digest
from components.models.clip.clip import Clip
from components.models.segmentation.detector import Answers, Detections, Detector, Question
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.stage import Batch, fixed_size_lists
from components.stages.boxes import Boxes
from components.stages.clip_images import ClipImages
from components.stages.clip_texts import ClipTexts
from tests.tiny_grounding_dino import write_grounding_dino
from tests.world import column, draw_waterbirds, records, run_stages

TEXTS = ("beak", "wing", "tail", "crest")
TYPES = {
    "height": pa.int32(),
    "width": pa.int32(),
    "box": pa.list_(pa.list_(pa.float32(), 4)),
    "score": pa.list_(pa.float32()),
    "concept": pa.list_(pa.int64()),
    "rank": pa.list_(pa.int64()),
}


@dataclass(frozen=True, kw_only=True)
class Scripted(Detector):
    """As many boxes of the r-th concept asked of an image as the image's top left pixel says, at most r + 1;
    concept r, box b: x0 = r, y0 = b."""

    asked: list[Question] = field(default_factory=list)

    def load(self, device):
        def detect(questions):
            self.asked.extend(questions)
            answers = [self.answer(question) for question in questions]
            return Answers(answers, sum(len(question.concepts) for question in questions))

        return detect

    def answer(self, question):
        most = int(question.image[0, 0, 0])
        pairs = [(r, b) for r in range(len(question.concepts)) for b in range(min(most, r + 1))]
        boxes = np.array([(r, b, 9, 9) for r, b in pairs], np.float32).reshape(-1, 4)
        scores = np.array([0.9 - b / 10 for _, b in pairs], np.float32)
        return Detections(boxes, np.array([r for r, _ in pairs], np.int64), scores)


def stage(detector, **knobs):
    clip = Clip(checkpoint="none")
    return Boxes(
        detector=detector, images=ClipImages(clip=clip), texts=ClipTexts(clip=clip, texts=TEXTS), **knobs
    )


def run(k_top_stored, similarities, most):
    """Of images 20 x (30 + row) whose CLIP similarity to each concept is given."""
    detector = Scripted()
    vectors = np.asarray(similarities, np.float32)
    images = [np.full((20, 30 + row, 3), value, np.uint8) for row, value in enumerate(most)]
    tensors = {"texts": {"embedding": np.eye(len(TEXTS), dtype=np.float32)}}
    batch = Batch(
        [None] * len(images), images, {"images": pa.table({"embedding": fixed_size_lists(vectors)})}
    )
    return stage(detector, k_top_stored=k_top_stored).load(tensors, "cpu")(batch), detector.asked


def test_the_best_concepts_by_clip_are_asked_and_no_others():
    rows, asked = run(2, [[0.1, 0.4, 0.3, 0.2], [0.9, 0.0, -0.2, 0.5]], most=[2, 1])
    assert [question.concepts for question in asked] == [("wing", "tail"), ("beak", "crest")]
    assert rows.columns["concept"].to_pylist() == [[1, 2, 2], [0, 3]]
    assert rows.columns["rank"].to_pylist() == [[0, 1, 1], [0, 1]]
    assert rows.columns["box"].to_pylist() == [
        [[0, 0, 9, 9], [1, 0, 9, 9], [1, 1, 9, 9]],
        [[0, 0, 9, 9], [1, 0, 9, 9]],
    ]
    np.testing.assert_allclose(rows.columns["score"].to_pylist()[0], [0.9, 0.9, 0.8], atol=1e-6)
    assert rows.columns["width"].to_pylist() == [30, 31]
    assert rows.model_inputs == 4


def test_a_short_vocabulary_is_asked_whole():
    rows, asked = run(15, [[0.1, 0.4, 0.3, 0.2]], most=[1])
    assert asked[0].concepts == ("wing", "tail", "crest", "beak")
    assert rows.columns["concept"].to_pylist() == [[1, 2, 3, 0]]


@pytest.mark.parametrize("most", [[1, 2, 3], [0, 2, 0], [0, 0, 0]])
def test_types_are_the_same_with_and_without_boxes(most, tmp_path):
    rows, _ = run(3, np.eye(4)[:3], most)
    assert {name: array.type for name, array in rows.columns.items()} == TYPES
    counts = [len(boxes) for boxes in rows.columns["box"].to_pylist()]
    assert counts == [{0: 0, 1: 3, 2: 5, 3: 6}[value] for value in most]
    table = pa.table({"image_id": np.arange(3), **rows.columns})
    with_boxes = pa.table({"image_id": np.arange(3, 6), **run(3, np.eye(4)[:3], [1, 1, 1])[0].columns})
    stored = column(tmp_path, [table, with_boxes]).read(np.arange(6), ["box", "score"])
    vectors, per_image = ragged_vectors(stored["box"])
    assert vectors.shape == (sum(counts) + 9, 4)
    assert per_image.tolist() == [*counts, 3, 3, 3]


def test_what_changes_boxes_is_part_of_the_stages_identity():
    base = stage(GroundingDino(checkpoint="x"))
    detectors = [
        dataclasses.replace(base.detector, **change)
        for change in (
            {"concepts_per_prompt": 2},
            {"stored_threshold": 0.1},
            {"shortest_edge": 400},
            {"longest_edge": 700},
            {"precision": "bf16"},
            {"checkpoint": "y"},
        )
    ]
    stages = [base, dataclasses.replace(base, k_top_stored=5), *map(stage, detectors)]
    assert len({digest(configuration(one)) for one in stages}) == len(stages)


def test_on_images_with_models(tmp_path, tiny_clip):
    """Through CLIP and GroundingDINO of random weights; what each image is asked, found directly."""
    card = load_card("toybirds")
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=1), card)
    clip = Clip(checkpoint=str(tiny_clip))
    detector = GroundingDino(
        checkpoint=str(write_grounding_dino(tmp_path / "weights")),
        stored_threshold=0.78,
        shortest_edge=64,
        longest_edge=96,
    )
    images, texts = ClipImages(clip=clip), ClipTexts(clip=clip, texts=TEXTS)
    boxes = Boxes(detector=detector, images=images, texts=texts, k_top_stored=2)
    data = run_stages({"boxes": boxes, "images": images, "texts": texts}, card, index, tmp_path / "columns")
    found = data["boxes"].read(index.image_ids, list(TYPES))
    embeddings = data["images"].array("embedding", index.image_ids)
    order = np.argsort(-embeddings @ data.tensors("texts")["embedding"].T, axis=1)[:, :2]
    detect = detector.load("cpu")
    for row, record in enumerate(records(index)):
        (expected,) = detect([Question(decode(record.path), tuple(TEXTS[c] for c in order[row]))]).detections
        assert found["concept"][row].as_py() == order[row][expected.concepts].tolist()
        assert found["rank"][row].as_py() == expected.concepts.tolist()
        np.testing.assert_allclose(found["score"][row].as_py(), expected.scores, atol=1e-5)
        np.testing.assert_allclose(np.reshape(found["box"][row].as_py(), (-1, 4)), expected.boxes, atol=0.05)
    assert not data["boxes"].failures
    assert len(found["concept"].combine_chunks().flatten()) > len(index)


def test_a_concept_that_fits_into_no_prompt_fails_its_image_with_the_concepts_name(tmp_path, tiny_clip):
    """The small vocabulary spells the long word letter by letter."""
    card = load_card("toybirds")
    index = WaterbirdsCsv().read(draw_waterbirds(tmp_path / "data", per_group=1), card)
    clip = Clip(checkpoint=str(tiny_clip))
    detector = GroundingDino(checkpoint=str(write_grounding_dino(tmp_path / "weights")), longest_edge=96)
    texts = ClipTexts(clip=clip, texts=("beak", "long antidisestablishmentarianism tail"))
    boxes = Boxes(detector=detector, images=ClipImages(clip=clip), texts=texts)
    data = run_stages({"boxes": boxes}, card, index, tmp_path / "columns")
    assert len(data["boxes"].failures) == len(index)
    assert all(
        "concept 'long antidis" in reason and "30 tokens" in reason
        for reason in data["boxes"].failures.values()
    )
