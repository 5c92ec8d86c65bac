"""The knobs of GroundingDINO, which the detector has and its model reads."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from components.models.segmentation.detector import Detector
from components.models.weights.precision import Precision


@dataclass(frozen=True, kw_only=True)
class GroundingDinoKnobs(Detector):
    """checkpoint: a folder that `save_pretrained` wrote, model and processor. precision: of the matrix
    products; weights, coordinates, scores and boxes stay float32 (autocast, as CFT runs it).

    concepts_per_prompt: 1 asks "concept." of the image in a pass of its own, and a box's score is the largest
    over the prompt's tokens, as in the library's post-processing: exact. More is faster and approximate, for
    the concepts of one prompt change each other's scores: "a. b. c." holds as many as the text limit lets in,
    and a box's score for a concept is the largest over that concept's tokens; a prompt with room for one
    concept only is asked as if alone.
    stored_threshold: boxes scored above are kept, to be filtered at read time; 0.2 is the lowest threshold
    worth a try (docs/methods/seg_mil.md, "Knobs"), and a mask is made of each box that is kept.
    shortest_edge, longest_edge: in pixels: an image is resized, aspect kept, to the one unless that exceeds
    the other. All are padded to one square of longest_edge, so that a result does not depend on the batch.
    """

    checkpoint: str = "IDEA-Research/grounding-dino-base"
    precision: Precision = "auto"
    concepts_per_prompt: Annotated[int, Ge(1)] = 1
    stored_threshold: Annotated[float, Ge(0), Lt(1)] = 0.2
    shortest_edge: Annotated[int, Gt(0)] = 800
    longest_edge: Annotated[int, Gt(0)] = 1333

    @property
    def least_score(self) -> float:
        """Boxes scored below are not kept."""
        return self.stored_threshold
