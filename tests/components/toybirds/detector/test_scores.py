"""Scores of detectors whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from components.data.generators.toybirds import PARTS
from components.models.segmentation.detector import Answers, Detections
from components.toybirds.detector.prompts import BIRD, true_boxes
from components.toybirds.detector.scores import iou, scores, summary

ROOT = Path(__file__).parents[4]
CONCEPTS = [*(ROOT / "datasets/toybirds/concepts.txt").read_text(encoding="utf-8").splitlines(), BIRD]


@pytest.fixture(scope="module")
def birds(drawn_birds):
    return drawn_birds(seed=95, n=60)


def test_iou_of_two_boxes():
    a, b = np.array([0, 0, 4, 2], np.float32), np.array([2, 1, 6, 3], np.float32)
    assert iou(a, b) == pytest.approx(2 / 14)
    assert iou(a, a) == 1
    assert iou(a, a + 10) == 0


class Oracle:
    """Answers with the true boxes, or with others and scores upside down."""

    def __init__(self, birds, right):
        self.truth = {
            image.tobytes(): boxes for image, boxes in zip(birds.images, true_boxes(birds), strict=True)
        }
        self.right = right

    def __call__(self, questions):
        (question,) = questions
        true = self.truth[question.image.tobytes()]
        far = np.array([0, 0, 1, 1], np.float32)
        boxes = [true.get(c, far) if self.right else far for c in question.concepts]
        sure = [(c in true) == self.right for c in question.concepts]
        found = Detections(np.stack(boxes), np.arange(len(boxes)), np.array(sure, np.float32))
        return Answers([found], 1)


@pytest.mark.parametrize("right", [True, False])
def test_scores_are_one_for_an_oracle_and_zero_for_its_opposite(birds, right):
    assert set(summary(scores(Oracle(birds, right), birds, CONCEPTS)).values()) == {float(right)}


def test_scores_of_answers_that_say_the_same_of_all_images(birds):
    """Everything is everywhere, in the right half: chance for the score, half the image for a background."""

    def detect(questions):
        (question,) = questions
        n = len(question.concepts)
        boxes = np.tile(np.array([32, 0, 64, 64], np.float32), (2 * n, 1))
        boxes[1::2] = [0, 0, 64, 64]  # the second best of each
        scored = np.tile(np.array([0.3, 0.2], np.float32), n)
        return Answers([Detections(boxes, np.repeat(np.arange(n), 2), scored)], n)

    measured = scores(detect, birds, CONCEPTS)
    assert summary(measured)["auc"] == 0.5
    parts = [(m.n, m.iou) for concept, m in measured.items() if concept.split()[-1] in PARTS]
    mean = sum(n * value for n, value in parts) / sum(n for n, _ in parts)
    assert summary(measured)["part_iou"] == pytest.approx(mean)
    for background in ("grass", "fog"):
        score = measured[background]
        assert score.n == sum(background in shown.values() for shown in birds.shown)
        assert (score.iou, score.recall) == (0.5, 1.0)
        assert (score.kept_if_true, score.kept_if_not) == (1.0, 1.0)
    assert measured[BIRD].auc is measured[BIRD].kept_if_not is None
