"""What a backbone is: an architecture, with or without weights, that makes features of images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from components.models.weights.precision import Precision

if TYPE_CHECKING:
    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Base of all backbones; one file each in `components/models/networks/backbones/`.

    precision: of the forward pass that makes features; classifiers are trained in fp32, heads alone on these
    features.
    """

    FOLDER: ClassVar[str] = "components.models.networks.backbones"

    checkpoint: str | None = None
    precision: Precision = "auto"

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        """The network for squares of `image_size` pixels, in float32, with the checkpoint's weights if there
        is one, else initialised from `seed`.

        n_classes: of a new linear head on the pooled features, initialised from `seed`; None: the
        architecture's own head, with the checkpoint's weights.

        Raises MissingWeights if the checkpoint is not found, WrongWeights if it does not fit, ValueError if
        the architecture does not exist or is not a trunk, a pooling and a head.
        """
        raise NotImplementedError
