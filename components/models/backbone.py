"""What a backbone is: an architecture, with or without weights, that makes features of images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from components.models.network import Network

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Base of all backbones; one file each in `components/models/backbones/`.

    STATISTICS: mean and std of the normalisation, per channel, for pixels in [0, 1].
    """

    FOLDER: ClassVar[str] = "components.models.backbones"
    STATISTICS: ClassVar[Statistics] = CENTRED

    checkpoint: str | None = None

    def build(self, n_classes: int, image_size: int, seed: int) -> "Network":
        """The network with the checkpoint's weights if there is one, else initialised from `seed`.

        Raises MissingWeights if the checkpoint is not found, RuntimeError if it does not fit.
        """
        raise NotImplementedError
