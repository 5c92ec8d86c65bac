"""How the small model that stands for the classifier under an image's masks is trained."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A linear map from coalitions of masks into the classifier's frozen last layer, as in EAC, whose code
    has these defaults (docs/methods/explanations.md, "Surrogate").

    loss: `binary_cross_entropy` or `squared_error` of the explained class's probability, `all_classes`, the
    cross-entropy of all classes' probabilities; optimiser: `sgd` has a momentum of 0.9; batch_size: in
    coalitions.
    """

    loss: Literal["binary_cross_entropy", "squared_error", "all_classes"] = "binary_cross_entropy"
    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Gt(0)] = 0.008
    epochs: Annotated[int, Ge(1)] = 50
    batch_size: Annotated[int, Ge(1)] = 100
