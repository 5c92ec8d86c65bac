"""The shipped SAM of the toy birds, on birds that it has not seen, through the components that experiments use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.generators.toybirds import PARTS
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.sam.sam_checkpoint import load_sam
from components.pixels import masks
from components.toybirds.birds import HELD_OUT_DATA_SEED, tight_box
from components.toybirds.sam.prompts import KINDS, true_masks
from components.toybirds.sam.scores import answers_to_boxes, best_automatic, calibration_error, means

FOLDER = Path(__file__).parents[4] / "datasets" / "toybirds" / "sam"
CHECKPOINT = FOLDER / "sam.pth"
RECORD = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
LEAST_BIRD, LEAST_PARTS = 0.93, 0.72
MARGIN = 3  # standard errors of a mean over the birds at hand


@pytest.fixture(scope="module")
def birds(drawn_birds):
    """Drawn from a seed that neither training nor the shipped scores use."""
    return drawn_birds(seed=97, n=200)


@pytest.fixture(scope="module")
def answers(birds):
    return answers_to_boxes(CHECKPOINT, birds)


def standard_error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


def test_the_file_is_small_and_holds_halves_and_nothing_else():
    assert CHECKPOINT.stat().st_size <= 1_500_000
    state = torch.load(CHECKPOINT, weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    sam = load_sam(CHECKPOINT, "cpu", torch.float32)
    assert sam.image_encoder.img_size == 64
    assert all(torch.isfinite(tensor).all() for tensor in sam.state_dict().values())


def test_the_bird_and_its_parts_are_found_in_their_boxes(answers):
    bird = answers.iou["bird"]
    assert bird.mean() >= LEAST_BIRD - MARGIN * standard_error(bird)
    error = np.sqrt(sum(standard_error(answers.iou[part]) ** 2 for part in PARTS)) / len(PARTS)
    assert np.mean([answers.iou[part].mean() for part in PARTS]) >= LEAST_PARTS - MARGIN * error


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_better_than_its_box(answers, birds, kind):
    """Than all pixels of the box. Not that of a head, 56 pixels of an ellipse that fills its box: no worse."""
    filled = []
    for parts in birds.parts:
        mask = true_masks(parts).get(kind)
        if mask is not None:
            x0, y0, x1, y1 = tight_box(mask)
            filled.append(mask.sum() / ((x1 - x0) * (y1 - y0)))
    gain = answers.iou[kind] - np.array(filled)
    assert gain.mean() > (-3 if kind == "head" else 5) * standard_error(gain)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_scores_are_those_of_the_checkpoint(answers, kind):
    """Other birds of the same drawing give the recorded mean within four standard errors of the difference."""
    recorded, measured = RECORD["boxes"]["iou"][kind], answers.iou[kind]
    shown = len(measured) / 200 * RECORD["boxes"]["n"]
    error = measured.std(ddof=1) * np.sqrt(1 / len(measured) + 1 / shown)
    assert abs(measured.mean() - recorded) < 4 * error


def test_the_predicted_iou_is_the_iou_that_is_reached(answers):
    predicted, true = answers.pooled()
    assert calibration_error(predicted, true) < 0.05
    assert np.corrcoef(predicted, true)[0, 1] > 0.5


def test_a_box_may_be_a_little_off(answers, birds):
    """Each side moved by a twentieth of the box: the bird is still found, and parts nearly as well."""
    segment = Sam(checkpoint=str(CHECKPOINT)).load("cpu")
    random = np.random.default_rng(0)
    kept = {kind: [] for kind in KINDS}
    for image, parts in zip(birds.images[:60], birds.parts[:60], strict=True):
        true = true_masks(parts)
        boxes = np.stack([tight_box(mask) for mask in true.values()])
        extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moved = np.clip(boxes + extent * random.uniform(-0.05, 0.05, boxes.shape), 0, 64).astype(np.float32)
        found = masks.decode(segment(image, moved).counts, 64, 64)
        for (kind, mask), answer in zip(true.items(), found, strict=True):
            kept[kind].append((answer & mask).sum() / (answer | mask).sum())
    exact = means({kind: answers.iou[kind] for kind in KINDS})
    off = means({kind: np.array(values) for kind, values in kept.items()})
    assert off["bird"] > exact["bird"] - 0.03
    assert off["parts"] > exact["parts"] - 0.08


def test_automatic_masks_hold_the_bird_and_its_parts(birds):
    best, _ = best_automatic(CHECKPOINT, birds.select(np.arange(12)))
    recorded = RECORD["automatic"]["best_iou"]
    assert best["bird"] > 0.8
    assert abs(best["parts"] - recorded["parts"]) < 0.1


def test_the_record_is_reproduced(drawn_birds):
    """The first of the birds that were measured, drawn again, give the means that are recorded."""
    held_out = drawn_birds(HELD_OUT_DATA_SEED, RECORD["boxes"]["n"])
    iou = answers_to_boxes(CHECKPOINT, held_out.select(np.arange(200))).iou
    for kind, values in iou.items():
        assert abs(values.mean() - RECORD["boxes"]["iou"][kind]) < 4 * standard_error(values), kind
