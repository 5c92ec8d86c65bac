"""From a phrase to a mask: the shipped GroundingDINO finds the box of what a bird shows, the shipped SAM its mask."""

from pathlib import Path

import numpy as np
import pytest

from components.data.card import load_card
from components.data.generators.toybirds import PARTS
from components.models.segmentation.box_segmenters.sam import Sam
from components.models.segmentation.detector import Question
from components.models.segmentation.detectors.grounding_dino import GroundingDino
from components.pixels import masks

SHIPPED = Path(__file__).parents[3] / "datasets" / "toybirds"
CONCEPTS = load_card("toybirds").vocabulary()
LEAST = 0.65  # mean over the parts of the mean IoU with the true mask
MARGIN = 3  # standard errors
N = {1: 40, len(CONCEPTS): 120}  # birds, by concepts asked in one prompt


def part_ious(birds, per_prompt):
    """Of each part, the IoU of its mask as found with the true one, in the images that show it; 0 where no box
    is found."""
    detect = GroundingDino(
        checkpoint=str(SHIPPED / "grounding_dino"), shortest_edge=64, longest_edge=64, concepts_per_prompt=per_prompt
    ).load("cpu")  # fmt: skip
    segment = Sam(checkpoint=str(SHIPPED / "sam" / "sam.pth")).load("cpu")
    ious = {part: [] for part in PARTS}
    for image, parts, shown in zip(birds.images, birds.parts, birds.shown, strict=True):
        (found,) = detect([Question(image, CONCEPTS)]).detections
        for part in PARTS:
            true = parts == PARTS.index(part) + 1
            if part not in shown or not true.any():
                continue
            of_phrase = np.flatnonzero(found.concepts == CONCEPTS.index(shown[part]))
            if len(of_phrase) == 0:
                ious[part].append(0.0)
                continue
            best = of_phrase[found.scores[of_phrase].argmax()]
            (mask,) = masks.decode(segment(image, found.boxes[best : best + 1]).counts, *true.shape)
            ious[part].append((mask & true).sum() / (mask | true).sum())
    return {part: np.array(values) for part, values in ious.items()}


@pytest.fixture(scope="module")
def birds(drawn_birds):
    """Birds as experiments draw them, of a seed that neither training nor the shipped scores use."""
    return drawn_birds(seed=95, n=max(N.values()))


@pytest.mark.parametrize("per_prompt", N)
def test_what_a_phrase_names_is_found_pixel_by_pixel(birds, per_prompt):
    ious = part_ious(birds.select(np.arange(N[per_prompt])), per_prompt)
    means = {part: values.mean() for part, values in ious.items()}
    error = np.sqrt(sum(v.var(ddof=1) / len(v) for v in ious.values())) / len(PARTS)
    assert np.mean(list(means.values())) >= LEAST - MARGIN * error, means
