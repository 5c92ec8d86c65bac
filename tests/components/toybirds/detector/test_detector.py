"""The shipped detector of the toy birds, on birds that it has not seen, through the product's own path."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from components.models.segmentation.detector import Question
from components.toybirds.detector.prompts import BIRD, UNKNOWN, true_boxes
from components.toybirds.detector.scores import iou, scores, summary
from components.toybirds.detector.train import (
    ALL,
    ALONE,
    FOLDER,
    detector,
)

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / FOLDER
CONCEPTS = [*(ROOT / "datasets/toybirds/concepts.txt").read_text(encoding="utf-8").splitlines(), BIRD]
LARGEST = 3.5 * 2**20  # bytes
N = {ALONE: 60, ALL: 200}  # birds: a concept alone takes a pass of its own


@pytest.fixture(scope="module")
def birds(drawn_birds):
    """Drawn from a seed that neither training nor the shipped scores use, parts and places as in these."""
    return drawn_birds(seed=96, n=max(N.values()), typical=0.5001)


@pytest.fixture(scope="module")
def record():
    return json.loads((SHIPPED / "scores.json").read_text(encoding="utf-8"))


def test_it_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < LARGEST


@pytest.mark.parametrize("way", [ALONE, ALL])
def test_scores_on_other_birds_are_those_recorded(birds, record, way):
    """Within four standard errors: of a share, taken per image, since parts of one bird are not independent;
    of an area under the curve, as Hanley and McNeil bound it for both halves of the images."""
    detect = detector(SHIPPED, 1 if way == ALONE else len(CONCEPTS)).load("cpu")
    measured = summary(scores(detect, birds.select(np.arange(N[way])), CONCEPTS))
    for name, shipped in record[way]["summary"].items():
        error = np.sqrt(max(shipped * (1 - shipped), 0.01) * (1 / N[way] + 1 / record["n"]))
        assert measured[name] > shipped - 4 * error, name


def test_recorded_scores_are_what_the_detector_must_reach(record):
    for way in (ALONE, ALL):
        reached = record[way]["summary"]
        assert reached["part_recall"] >= 0.88
        assert reached["bird_recall"] >= 0.99
        assert reached["auc"] >= 0.9


def test_with_the_products_thresholds_it_finds_the_bird_and_nothing_that_has_no_name(birds):
    """Boxes of "bird" above the stored threshold, and hardly any of words that it was never taught."""
    knobs = dataclasses.replace(detector(SHIPPED, 1), stored_threshold=0.25)
    questions = [Question(image, (BIRD, UNKNOWN)) for image in birds.images[:40]]
    answers = knobs.load("cpu")(questions).detections
    best = [found.boxes[found.concepts == 0][0] for found in answers]
    truth = [boxes[BIRD] for boxes in true_boxes(birds.select(np.arange(40)))]
    assert np.mean([iou(a, b) for a, b in zip(best, truth, strict=True)]) > 0.75
    assert sum((found.concepts == 1).any() for found in answers) <= 2
