"""A small GroundingDINO of random weights, by the product and by its library."""

import dataclasses

import pytest

from components.models.segmentation.detectors.grounding_dino import GroundingDino
from tests.tiny_grounding_dino import (
    LONGEST,
    SHORTEST,
    THRESHOLD,
    write_grounding_dino,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_grounding_dino(tmp_path_factory.mktemp("weights") / "grounding-dino")


@pytest.fixture(scope="module")
def knobs(folder):
    return GroundingDino(
        checkpoint=str(folder),
        stored_threshold=THRESHOLD,
        shortest_edge=SHORTEST,
        longest_edge=LONGEST,
    )


@pytest.fixture(scope="module")
def detect(knobs):
    return knobs.load("cpu")


@pytest.fixture(scope="module")
def everything(knobs):
    """Keeps every query."""
    return dataclasses.replace(knobs, stored_threshold=0.0)


@pytest.fixture(scope="module")
def library(folder):
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    return AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(
        folder
    )
