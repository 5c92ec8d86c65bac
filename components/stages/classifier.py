"""The classifier stage: a backbone trained by a recipe, shared by every trial that starts from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from components.data.columns import Data
from components.models.networks.backbone import Backbone
from components.models.training.recipe import Recipe
from components.models.weights.precision import dtype_of
from components.stage import Tensors, TensorStage

if TYPE_CHECKING:
    from components.models.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Classifier(TensorStage):
    """The trained network's state (`trunk.*`, `head.weight`, `head.bias`; `pool.*` where the
    architecture has layers between its pooling and its head). Reads labels of the training
    split only; images that cannot be read are left out and counted.

    image_size: side in pixels of the square that images are resized to.
    """

    backbone: Backbone
    recipe: Recipe
    n_classes: int
    image_size: int
    seed: int

    def compute(self, data: Data, device: str, report: Callable[..., None]) -> dict[str, NDArray[Any]]:
        from components.models.networks.network import dump_tensors
        from components.models.training.training import train_classifier

        network = self.backbone.build(self.n_classes, self.image_size, self.seed)
        train_classifier(network, data, self.recipe, self.image_size, self.seed, device, report)
        return dump_tensors(network)


def load_network(
    backbone: Backbone,
    classifier: Classifier | None,
    tensors: Mapping[str, Tensors],
    image_size: int,
    device: str,
) -> "Network":
    """The network in evaluation mode and the backbone's precision: with the classifier's weights
    (`tensors["classifier"]`) if there is one, else with the backbone's own checkpoint and no meaningful head.
    """
    from components.models.networks.network import load_tensors

    n_classes = 1 if classifier is None else classifier.n_classes
    network = backbone.build(n_classes, image_size, seed=0)
    if classifier is not None:
        load_tensors(network, tensors["classifier"])
    return network.ready(device, dtype_of(backbone.precision, device))


def load_target(
    backbone: Backbone,
    classifier: Classifier | None,
    tensors: Mapping[str, Tensors],
    image_size: int,
    device: str,
) -> "Network":
    """The network whose decisions are explained, in evaluation mode and the backbone's precision: with the
    classifier's weights (`tensors["classifier"]`), else as its own checkpoint says, its own head included."""
    if classifier is not None:
        return load_network(backbone, classifier, tensors, image_size, device)
    return backbone.build(None, image_size, seed=0).ready(device, dtype_of(backbone.precision, device))
