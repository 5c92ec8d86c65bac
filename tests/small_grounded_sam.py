"""Boxes by GroundingDINO and masks by SAM, both small: the weights' folder, and the segmenter in a spec."""

from pathlib import Path
from typing import Any

import torch

from tests.small_sam import sam
from tests.tiny_grounding_dino import write_grounding_dino


def write_weights(folder: Path) -> Path:
    """A new weights folder under the names that `grounded_sam` gives."""
    folder.mkdir()
    write_grounding_dino(folder / "dino")
    torch.save(sam().state_dict(), folder / "sam.pth")
    return folder


def grounded_sam(stored_threshold: float, k_top_stored: int) -> dict[str, Any]:
    """The segmenter of a spec."""
    return {
        "name": "grounded_sam",
        "detector": {
            "name": "grounding_dino",
            "checkpoint": "dino",
            "stored_threshold": stored_threshold,
            "shortest_edge": 48,
            "longest_edge": 64,
        },
        "box_segmenter": {"name": "sam", "checkpoint": "sam.pth"},
        "k_top_stored": k_top_stored,
    }
