"""Masks of phrases: which boxes become masks, by hand, and the small models that ship against true masks."""

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from components.data.generators.toybirds import Toybirds
from components.models.segmentation.box_segmenter import BoxSegmenter
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detector import Answers, Detections, Detector
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.models.segmentation.segmenter import Found
from components.models.segmentation.segmenters.phrase_sam import PhraseSam
from components.pixels import masks
from components.stage import ImageRecord

BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 2, 2], [3, 0, 6, 2], [0, 3, 2, 6]], np.float32)
CONCEPTS = np.array([0, 0, 0, 1, 2])
SCORES = np.array([0.9, 0.5, 0.4, 0.6, 0.2], np.float32)


@dataclass(frozen=True, kw_only=True)
class Planted(Detector):
    """Finds `BOXES`, the third of which has no pixel, whatever the image."""

    def load(self, device):
        def detect(questions):
            (question,) = questions
            assert question.concepts == ("a", "b", "c")
            return Answers([Detections(BOXES, CONCEPTS, SCORES)], 1)

        return detect


@dataclass(frozen=True, kw_only=True)
class Filled(BoxSegmenter):
    """The box itself, with its left edge as predicted IoU."""

    def load(self, device):
        def segment(image, boxes):
            y, x = np.mgrid[: image.shape[0], : image.shape[1]]
            filled = [(x >= a) & (y >= b) & (x < c) & (y < d) for a, b, c, d in boxes]
            return Found(masks.encode(np.stack(filled)) if filled else [], boxes[:, 0])

        return segment


@pytest.mark.parametrize(
    ("threshold", "per_phrase", "kept"),
    [(0.25, 1, [0, 3]), (0.25, 2, [0, 1, 3]), (0.1, 3, [0, 1, 3, 4]), (0.95, 1, []), (0.6, 1, [0, 3])],
)
def test_the_best_boxes_of_each_phrase_become_masks_and_empty_ones_do_not(threshold, per_phrase, kept):
    segmenter = PhraseSam(
        phrases=("a", "b", "c"),
        detector=Planted(),
        box_segmenter=Filled(),
        box_threshold=threshold,
        boxes_per_phrase=per_phrase,
    )
    image = np.zeros((7, 8, 3), np.uint8)
    found = segmenter.load("cpu")(image, None)
    areas = [(c - a) * (d - b) for a, b, c, d in BOXES[kept]]
    assert masks.areas(found.counts, 7, 8).tolist() == areas
    np.testing.assert_array_equal(found.predicted_iou, BOXES[kept, 0])
    assert found.stability is None


def test_the_models_that_ship_find_the_bird_and_its_wing(tmp_path):
    birds = tmp_path / "birds"
    Toybirds(seed=95, n_train=4, n_val=4, n_test=12).generate(birds)
    segmenter = PhraseSam(
        phrases=("bird", "striped wing", "plain wing"),
        detector=GroundingDino(
            checkpoint="datasets/toybirds/grounding_dino",
            shortest_edge=64,
            longest_edge=64,
            concepts_per_prompt=3,
        ),
        box_segmenter=Sam(checkpoint="datasets/toybirds/sam/sam.pth"),
        box_threshold=0.5,
    )
    cut, overlaps = segmenter.load("cpu"), {1: [], 5: []}
    for parts_path in sorted((birds / "parts").glob("*.png")):
        (path,) = (p for p in birds.rglob(f"{parts_path.stem}.*") if p.parent.name not in {"parts", "masks"})
        image = np.asarray(Image.open(path).convert("RGB"))
        parts = np.asarray(Image.open(parts_path))
        found = cut(image, ImageRecord(0, path))
        proposals = masks.decode(found.counts, *parts.shape)
        for value, truth in ((1, parts > 0), (5, parts == 5)):
            unions = (proposals | truth).sum(axis=(1, 2))
            overlaps[value].append(((proposals & truth).sum(axis=(1, 2)) / unions).max(initial=0))
    assert np.mean(overlaps[1]) > 0.85
    assert np.mean(overlaps[5]) > 0.6
