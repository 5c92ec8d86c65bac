"""GroundingDINO (Liu et al., arXiv 2303.05499), from transformers."""

from dataclasses import dataclass

from components.models.segmentation.detector import Detect
from components.models.segmentation.grounding_dino.knobs import GroundingDinoKnobs


@dataclass(frozen=True, kw_only=True)
class GroundingDino(GroundingDinoKnobs):
    """Boxes of concepts; see its knobs."""

    def load(self, device: str) -> Detect:
        """MissingWeights and WrongWeights where the folder is not there or not of a GroundingDINO. The
        detector's ValueError names a concept that is empty or longer than the model's text limit."""
        from components.models.segmentation.grounding_dino.model import GroundingDinoModel

        return GroundingDinoModel(self, device).detect
