"""A small vision transformer for small images, trained from scratch (timm's, without a class token)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from components.models.networks.backbone import Backbone
from components.models.networks.statistics import CENTRED

if TYPE_CHECKING:
    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class SmallVit(Backbone):
    """Patches of `patch_size` pixels of the image, `depth` pre-norm blocks of `width` features."""

    width: Annotated[int, Ge(8)] = 64
    depth: Annotated[int, Ge(1)] = 3
    heads: Annotated[int, Ge(1)] = 4
    patch_size: Annotated[int, Ge(1)] = 8

    def build(self, n_classes: int | None, image_size: int, seed: int) -> "Network":
        import torch

        from components.models.networks.network import from_classifier
        from components.models.networks.trunks import VitTrunk

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            trunk = VitTrunk(image_size, self.patch_size, self.width, self.depth, self.heads)
            return from_classifier(trunk, self.width, n_classes, CENTRED, self.checkpoint)
