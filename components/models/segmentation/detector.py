"""What a detector is: it finds boxes of concepts that are given as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """S boxes of one image: `boxes` float32 (S, 4), x0 y0 x1 y1 in pixels of the image, inside it;
    `concepts` int64 (S,), position in the list of concepts that was asked for; `scores` float32 (S,) in
    [0, 1]. Best score first within each concept, concepts in the order asked for."""

    boxes: NDArray[np.float32]
    concepts: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """One image uint8 (H, W, 3) and the concepts asked of it."""

    image: NDArray[np.uint8]
    concepts: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Detections per question, and how many image passes of the model they took."""

    detections: list[Detections]
    model_inputs: int


Detect = Callable[[Sequence[Question]], Answers]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Base of all detectors; one file each in `components/models/segmentation/detectors/`."""

    FOLDER: ClassVar[str] = "components.models.segmentation.detectors"
    BATCH_SIZE: ClassVar[int] = 8  # images a replica gets at once

    @property
    def least_score(self) -> float:
        """Boxes scored below are not kept."""
        return 0.0

    def check_threshold(self, box_threshold: float) -> None:
        """ValueError for a threshold of which nothing would be seen."""
        if box_threshold < self.least_score:
            raise ValueError(
                f"box_threshold = {box_threshold:g} is below the least score that the detector keeps,"
                f" {self.least_score:g}: there are no boxes between them"
            )

    def load(self, device: str) -> Detect:
        """The detector with its model in memory, on `device`. It raises ValueError for a concept that does
        not fit into a prompt; a question without concepts has no boxes."""
        raise NotImplementedError
